// Findings of the canary: one object with an `event` for each thing that is not as it was deployed.

const { difference } = require('./policy');

/** Events by the alarm that counts them. */
exports.EVENTS = {
  keyPolicyDiffers: ['key_policy_differs'],
  keyStateDiffers: [
    'key_disabled',
    'key_deletion_scheduled',
    'key_is_another_kind',
    'key_not_rotated',
    'key_has_grants',
  ],
  keyReleased: ['key_released'],
  trailIncomplete: ['trail_does_not_record'],
  unheard: ['call_not_heard'],
};

/** `expected` has the digests of the deployed policy's statements. */
exports.ofKey = ({ policy, metadata, rotation, grants }, expected) => {
  const { missing, unexpected } = difference(policy, expected);
  const { KeyState, KeySpec, KeyUsage, Origin, MultiRegion, DeletionDate } = metadata;
  const kind = { KeySpec, KeyUsage, Origin, MultiRegion };
  return [
    missing.length + unexpected.length > 0 && { event: 'key_policy_differs', missing, unexpected },
    KeyState === 'PendingDeletion' && { event: 'key_deletion_scheduled', deletion: DeletionDate },
    !['Enabled', 'PendingDeletion'].includes(KeyState) && { event: 'key_disabled', state: KeyState },
    Object.entries(KIND).some(([member, value]) => kind[member] !== value) && { event: 'key_is_another_kind', ...kind },
    // KMS does not rotate a key whose deletion is scheduled.
    rotation.KeyRotationEnabled !== true && KeyState !== 'PendingDeletion' && { event: 'key_not_rotated' },
    grants.length > 0 && {
      event: 'key_has_grants',
      grants: grants.map(({ GrantId, GranteePrincipal, Operations }) => ({ GrantId, GranteePrincipal, Operations })),
    },
  ].filter(Boolean);
};

const KIND = { KeySpec: 'SYMMETRIC_DEFAULT', KeyUsage: 'ENCRYPT_DECRYPT', Origin: 'AWS_KMS', MultiRegion: false };

/** `outcome` is the name of KMS's error for a call without an enclave. A call that KMS did not decide is an error. */
exports.ofCall = (outcome) => {
  if (outcome === 'AccessDeniedException') {
    return [];
  }
  if (outcome === undefined || outcome === 'DryRunOperationException') {
    return [{ event: 'key_released', outcome }];
  }
  throw new Error(`KMS answered ${outcome} to a call without an enclave, and neither denied nor allowed it`);
};

/** EventBridge receives the calls of KMS only if a trail records them in this region. */
exports.ofTrail = ({ trail, status, selectors }, region) =>
  [
    status.IsLogging !== true && 'the trail does not log',
    trail.IsMultiRegionTrail !== true && trail.HomeRegion !== region && `the trail does not record ${region}`,
    !['ReadOnly', 'WriteOnly'].every((kind) => recordsKms(selectors, kind)) &&
      'the trail does not record read and write events of KMS',
  ]
    .filter(Boolean)
    .map((problem) => ({ event: 'trail_does_not_record', problem }));

/** https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_GetEventSelectors.html */
function recordsKms({ EventSelectors, AdvancedEventSelectors }, kind) {
  const basic = ({ IncludeManagementEvents, ReadWriteType, ExcludeManagementEventSources }) =>
    IncludeManagementEvents === true &&
    ['All', kind].includes(ReadWriteType) &&
    !(ExcludeManagementEventSources ?? []).includes(KMS);
  const advanced = ({ FieldSelectors }) =>
    FieldSelectors.every((field) => admits(field, kind)) && FieldSelectors.some(isManagement);
  return (EventSelectors ?? []).some(basic) || (AdvancedEventSelectors ?? []).some(advanced);
}

/** A condition of a kind unknown here is taken as one that excludes KMS. */
function admits(field, kind) {
  const { Field, Equals, NotEquals, ...others } = field;
  const only = Object.values(others).every((values) => (values ?? []).length === 0);
  switch (Field) {
    case 'eventCategory':
      return isManagement(field);
    case 'readOnly':
      return only && Equals?.includes(String(kind === 'ReadOnly')) === true;
    case 'eventSource':
      return only && (NotEquals?.length > 0 ? !NotEquals.includes(KMS) : Equals?.includes(KMS) === true);
    default:
      return false;
  }
}

function isManagement({ Field, Equals }) {
  return Field === 'eventCategory' && Equals?.length === 1 && Equals[0] === 'Management';
}

const KMS = 'kms.amazonaws.com';

/** `called`: calls of the canary that are older than an hour. `heard`: events of its calls since the first of those. */
exports.ofEvents = ({ called, heard }) => (called > 0 && heard === 0 ? [{ event: 'call_not_heard', called }] : []);
