/** The topic that every alarm notifies, and its subscriptions. */

import { Annotations, type Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as sns from 'aws-cdk-lib/aws-sns';

import { type Configuration, names } from '../configuration';

export function alarmTopic(stack: Stack, configuration: Configuration): sns.Topic {
  const name = names(configuration);
  const topic = new sns.Topic(stack, 'Alarms', { topicName: name.of('alarms'), enforceSSL: true });
  // A policy replaces the one that SNS gives to a topic, which admits the account's alarms.
  const { partition, region, account } = configuration;
  publisher(topic, 'cloudwatch.amazonaws.com', {
    ArnLike: { 'aws:SourceArn': `arn:${partition}:cloudwatch:${region}:${account}:alarm:${name.of('*')}` },
    StringEquals: { 'aws:SourceAccount': account },
  });
  configuration.alarmsTo.forEach((subscriber) => subscribe(stack, configuration, topic, subscriber));
  if (configuration.alarmsTo.length === 0) {
    Annotations.of(topic).addWarningV2(
      'cloister:alarms-to',
      'CDK_ALARMS_TO is not set: no alarm reaches anybody before somebody subscribes to the topic',
    );
  }
  return topic;
}

/** An e-mail address has to confirm the subscription; a queue's own policy has to admit the topic. */
function subscribe(stack: Stack, { account, region }: Configuration, topic: sns.Topic, endpoint: string): void {
  const [, , service = 'email', ofRegion, ofAccount] = endpoint.split(':');
  new sns.CfnSubscription(stack, `AlarmsTo-${endpoint}`, {
    topicArn: topic.topicArn,
    protocol: service,
    endpoint,
  });
  if (service === 'lambda' && ofAccount === account && ofRegion === region) {
    new lambda.CfnPermission(stack, `AlarmsMayCall-${endpoint}`, {
      action: 'lambda:InvokeFunction',
      functionName: endpoint,
      principal: 'sns.amazonaws.com',
      sourceArn: topic.topicArn,
    });
  }
}

/** Admits a service of AWS, under conditions, to the topic. */
export function publisher(topic: sns.Topic, service: string, conditions: Readonly<Record<string, unknown>>): void {
  topic.addToResourcePolicy(
    new iam.PolicyStatement({
      actions: ['sns:Publish'],
      principals: [new iam.ServicePrincipal(service)],
      resources: [topic.topicArn],
      conditions,
    }),
  );
}
