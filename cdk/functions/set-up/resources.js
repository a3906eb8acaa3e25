// The custom resources of lib/set-up.ts. Each takes an event of CloudFormation and `aws`, which calls AWS:
// `aws(service, command, input)`. It returns the resource's attributes.

const { createHash } = require('node:crypto');

/** A log group that may exist already, because EKS creates its group again after the cluster is deleted. */
async function logGroup({ RequestType, ResourceProperties: { Name, RetentionInDays } }, aws) {
  if (RequestType === 'Delete') {
    await tolerate('ResourceNotFoundException', aws('logs', 'DeleteLogGroup', { logGroupName: Name }));
    return {};
  }
  await tolerate('ResourceAlreadyExistsException', aws('logs', 'CreateLogGroup', { logGroupName: Name }));
  await aws('logs', 'PutRetentionPolicy', { logGroupName: Name, retentionInDays: Number(RetentionInDays) });
  return {};
}

/** A security group without rules: the default group of a new network admits and reaches its own members. */
async function closedSecurityGroup({ RequestType, ResourceProperties: { GroupId } }, aws) {
  if (RequestType === 'Delete') {
    return {};
  }
  const { SecurityGroups } = await aws('ec2', 'DescribeSecurityGroups', { GroupIds: [GroupId] });
  const { IpPermissions, IpPermissionsEgress } = SecurityGroups[0];
  for (const [command, rules] of [
    ['RevokeSecurityGroupIngress', IpPermissions],
    ['RevokeSecurityGroupEgress', IpPermissionsEgress],
  ]) {
    if (rules.length > 0) {
      await aws('ec2', command, { GroupId, IpPermissions: rules });
    }
  }
  return {};
}

/** Versions and addresses of AWS for a region and a version of Kubernetes, as they are until a property changes. */
async function published({ RequestType, ResourceProperties: { Version, Ami, AddOns, PrefixList } }, aws) {
  if (RequestType === 'Delete') {
    return {};
  }
  const { Parameter } = await aws('ssm', 'GetParameter', { Name: Ami });
  const addresses = await addressesOf(PrefixList, aws);
  const versions = await Promise.all(
    AddOns.map(async (addonName) => {
      const { addons } = await aws('eks', 'DescribeAddonVersions', { addonName, kubernetesVersion: Version });
      const recommended = addons[0]?.addonVersions.find(({ compatibilities }) =>
        compatibilities.some(({ clusterVersion, defaultVersion }) => clusterVersion === Version && defaultVersion),
      );
      if (recommended === undefined) {
        throw new Error(`the add-on ${addonName} has no default version for Kubernetes ${Version}`);
      }
      return [attribute(addonName), recommended.addonVersion];
    }),
  );
  return {
    ...Object.fromEntries(versions),
    AmiRelease: Parameter.Value,
    // Peers of a network policy.
    Addresses: JSON.stringify(addresses.map((cidr) => ({ ipBlock: { cidr } }))),
    AddressesDigest: digest(addresses),
  };
}

/**
 * Stands between two bindings of a target group. Its deletion, which comes before that of the earlier binding, waits
 * until the targets of the later one have been registered and checked. What cannot be seen holds up no deletion, which
 * would leave its stack undeletable.
 */
async function handover({ RequestType, ResourceProperties: { TargetGroupArn } }, aws, sleep) {
  if (RequestType !== 'Delete') {
    return {};
  }
  try {
    for (let polls = 1; polls <= MOST_POLLS; polls += 1) {
      await sleep(POLL_SECONDS);
      const { TargetHealthDescriptions } = await aws('elastic-load-balancing-v2', 'DescribeTargetHealth', {
        TargetGroupArn,
      });
      if (
        polls >= LEAST_POLLS &&
        TargetHealthDescriptions.every(({ TargetHealth }) => TargetHealth.State !== 'initial')
      ) {
        break;
      }
    }
  } catch (error) {
    console.error(
      JSON.stringify({
        event: 'targets_not_seen',
        target_group: TargetGroupArn,
        error: `${error.name}: ${error.message}`,
      }),
    );
  }
  return {};
}

const POLL_SECONDS = 15;
/** One minute, in which the controller registers targets; and five, after which a deployment is not held up further. */
const LEAST_POLLS = 4;
const MOST_POLLS = 20;

exports.resources = {
  'Custom::LogGroup': logGroup,
  'Custom::ClosedSecurityGroup': closedSecurityGroup,
  'Custom::Published': published,
  'Custom::Handover': handover,
};

/** Compares the addresses that were published with those of today: pods may not call new ones. */
exports.checkAddresses = async ({ PrefixList, AddressesDigest }, aws) => {
  const addresses = await addressesOf(PrefixList, aws);
  if (digest(addresses) !== AddressesDigest) {
    throw new Error(`the addresses of ${PrefixList} are now ${addresses.join(', ')}: deploy with another CDK_RENEW`);
  }
};

async function addressesOf(prefixList, aws) {
  const { PrefixLists } = await aws('ec2', 'DescribePrefixLists', {
    Filters: [{ Name: 'prefix-list-name', Values: [prefixList] }],
  });
  const addresses = [...(PrefixLists[0]?.Cidrs ?? [])].sort();
  if (addresses.length === 0) {
    throw new Error(`the prefix list ${prefixList} has no addresses`);
  }
  return addresses;
}

function digest(addresses) {
  return createHash('sha256').update(addresses.join()).digest('hex');
}

/** A name of letters, for `Fn::GetAtt`. */
function attribute(addonName) {
  return addonName.replaceAll('-', '');
}

exports.attribute = attribute;

async function tolerate(name, call) {
  try {
    await call;
  } catch (error) {
    if (error.name !== name) {
      throw error;
    }
  }
}
