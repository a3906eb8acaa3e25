/** Acknowledged findings of cdk-nag, each with its reason. */

import { Validations } from 'aws-cdk-lib';
import type { IConstruct } from 'constructs';

export function acknowledge(scope: IConstruct, ids: readonly string[], reason: string): void {
  ids.forEach((id) => Validations.of(scope).acknowledge({ id, reason }));
}

/** The id of the finding "policy managed by AWS". */
export function managed(policy: string): string {
  return `AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/${policy}]`;
}
