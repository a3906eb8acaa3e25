/** The topic that every alarm notifies, and its subscriptions. */

import type { Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
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
  return topic;
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
