/** Log groups of functions that libraries create. */

import { CfnResource, type IAspect, RemovalPolicy } from 'aws-cdk-lib';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import type { IConstruct } from 'constructs';

/**
 * Gives every function a log group that ends with its stack. Lambda would create one itself, which nobody deletes and
 * which keeps its lines forever.
 */
export class FunctionLogs implements IAspect {
  visit(node: IConstruct): void {
    if (node instanceof logs.CfnLogGroup && node.node.scope?.node.scope instanceof lambda.Function) {
      node.retentionInDays = RETENTION;
      node.applyRemovalPolicy(RemovalPolicy.DESTROY);
    }
    if (!CfnResource.isCfnResource(node) || node.cfnResourceType !== 'AWS::Lambda::Function') {
      return;
    }
    const scope = node.node.scope;
    if (scope === undefined || hasLogGroup(node)) {
      return;
    }
    const id = `${node.node.id}Log`;
    if (scope.node.tryFindChild(id) === undefined) {
      const group = new logs.CfnLogGroup(scope, id, { retentionInDays: RETENTION });
      group.applyRemovalPolicy(RemovalPolicy.DESTROY);
      node.addPropertyOverride('LoggingConfig.LogGroup', group.ref);
    }
  }
}

function hasLogGroup(node: CfnResource): boolean {
  const config = node instanceof lambda.CfnFunction ? node.loggingConfig : undefined;
  return config !== undefined && 'logGroup' in config && config.logGroup !== undefined;
}

const RETENTION = logs.RetentionDays.ONE_YEAR;
