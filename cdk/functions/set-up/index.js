// Answers CloudFormation's requests for custom resources, and checks once a day what a cluster was given:
// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html

const { checkAddresses, resources } = require('./resources');
const { retrying } = require('./retry');

const CLIENTS = {
  ec2: 'EC2Client',
  eks: 'EKSClient',
  'elastic-load-balancing-v2': 'ElasticLoadBalancingV2Client',
  logs: 'CloudWatchLogsClient',
  ssm: 'SSMClient',
};

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

const aws = retrying(async (service, command, input) => {
  const sdk = require(`@aws-sdk/client-${service === 'logs' ? 'cloudwatch-logs' : service}`);
  return new sdk[CLIENTS[service]]({}).send(new sdk[`${command}Command`](input));
}, sleep);

exports.handler = (event) => (event.ResponseURL === undefined ? checkAddresses(event, aws) : answer(event));

async function answer(event) {
  const result = await make(event).then(
    (Data) => ({ Status: 'SUCCESS', Data }),
    (error) => {
      console.error(error);
      return { Status: 'FAILED', Reason: `${event.ResourceType}: ${error.message}` };
    },
  );
  const body = JSON.stringify({
    ...result,
    StackId: event.StackId,
    RequestId: event.RequestId,
    LogicalResourceId: event.LogicalResourceId,
    PhysicalResourceId: event.PhysicalResourceId ?? `${event.LogicalResourceId}-${event.RequestId}`,
  });
  // As bytes, because the presigned URL takes no content type.
  const { ok, status } = await fetch(event.ResponseURL, { method: 'PUT', body: Buffer.from(body) });
  if (!ok) {
    throw new Error(`CloudFormation's answer to the result is ${status}`);
  }
}

async function make(event) {
  return resources[event.ResourceType](event, aws, sleep);
}
