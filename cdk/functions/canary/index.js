// Compares the key and the trail with what was deployed, and calls KMS without an enclave, which it has to deny and
// CloudTrail has to report. Writes a line with an `event` for each difference; an error is a check that was not made.

const {
  CloudTrailClient,
  GetEventSelectorsCommand,
  GetTrailCommand,
  GetTrailStatusCommand,
} = require('@aws-sdk/client-cloudtrail');
const { CloudWatchClient, GetMetricStatisticsCommand } = require('@aws-sdk/client-cloudwatch');
const {
  DescribeKeyCommand,
  GenerateDataKeyCommand,
  GetKeyPolicyCommand,
  GetKeyRotationStatusCommand,
  KMSClient,
  ListGrantsCommand,
} = require('@aws-sdk/client-kms');

const { ofCall, ofEvents, ofKey, ofTrail } = require('./findings');

const { AWS_REGION, AWS_LAMBDA_FUNCTION_NAME, CMK_ARN, KEY_POLICY, TRAIL_ARN, HEARD_RULE } = process.env;
const kms = new KMSClient({});
const cloudtrail = new CloudTrailClient({});
const cloudwatch = new CloudWatchClient({});

exports.handler = async (event) => {
  if (event.source === 'aws.kms') {
    write({ message: 'CloudTrail reported a call of the canary', called: event.detail?.eventTime });
    return;
  }
  const checks = await Promise.allSettled([key(), call(), trail(), events()]);
  const findings = checks.flatMap(({ value }) => value ?? []);
  findings.forEach(write);
  const failures = checks.flatMap(({ reason }) => (reason ? [`${reason.name}: ${reason.message}`] : []));
  write({ message: 'compared the key and the trail with what was deployed', findings: findings.length, failures });
  if (failures.length > 0) {
    throw new Error(`failed to compare the key and the trail with what was deployed: ${failures.join('; ')}`);
  }
};

/** A line that is JSON and nothing else, as metric filters need it: Lambda's console adds words before it. */
function write(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function key() {
  const KeyId = CMK_ARN;
  const [{ Policy: policy }, { KeyMetadata: metadata }, rotation, { Grants: grants }] = await Promise.all([
    kms.send(new GetKeyPolicyCommand({ KeyId, PolicyName: 'default' })),
    kms.send(new DescribeKeyCommand({ KeyId })),
    kms.send(new GetKeyRotationStatusCommand({ KeyId })),
    kms.send(new ListGrantsCommand({ KeyId })),
  ]);
  return ofKey({ policy, metadata, rotation, grants }, KEY_POLICY.split(','));
}

async function call() {
  const asked = { KeyId: CMK_ARN, KeySpec: 'AES_256', EncryptionContext: { purpose: 'wallet' }, DryRun: true };
  return ofCall(
    await kms.send(new GenerateDataKeyCommand(asked)).then(
      () => undefined,
      ({ name }) => name,
    ),
  );
}

async function trail() {
  const [{ Trail }, status, selectors] = await Promise.all([
    cloudtrail.send(new GetTrailCommand({ Name: TRAIL_ARN })),
    cloudtrail.send(new GetTrailStatusCommand({ Name: TRAIL_ARN })),
    cloudtrail.send(new GetEventSelectorsCommand({ TrailName: TRAIL_ARN })),
  ]);
  return ofTrail({ trail: Trail, status, selectors }, AWS_REGION);
}

async function events() {
  const [called, heard] = await Promise.all([
    sum('AWS/Lambda', 'Invocations', { FunctionName: AWS_LAMBDA_FUNCTION_NAME }, 2, 1),
    sum('AWS/Events', 'MatchedEvents', { RuleName: HEARD_RULE }, 2, 0),
  ]);
  return ofEvents({ called, heard });
}

/** The sum of a metric from so many hours ago until so many hours ago. */
async function sum(Namespace, MetricName, dimensions, from, until) {
  const ago = (hours) => new Date(Date.now() - hours * 3_600_000);
  const { Datapoints } = await cloudwatch.send(
    new GetMetricStatisticsCommand({
      Namespace,
      MetricName,
      Dimensions: Object.entries(dimensions).map(([Name, Value]) => ({ Name, Value })),
      StartTime: ago(from),
      EndTime: ago(until),
      Period: 300,
      Statistics: ['Sum'],
    }),
  );
  return Datapoints.reduce((total, { Sum }) => total + Sum, 0);
}
