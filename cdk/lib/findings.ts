/** Findings of cdk-nag that are no mistakes, each with its reason. */

import { Validations } from 'aws-cdk-lib';
import type { IConstruct } from 'constructs';

export function acknowledge(scope: IConstruct, ids: readonly string[], reason: string): void {
  ids.forEach((id) => Validations.of(scope).acknowledge({ id, reason }));
}

/** The finding that a policy is one that AWS maintains. */
export function managed(policy: string): string {
  return `AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/${policy}]`;
}
