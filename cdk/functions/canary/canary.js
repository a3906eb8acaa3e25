// Envelope: crates/sealing/SPEC.md §1. Encryption context: §2.

/** A dry run of the signer's Decrypt call for the data key of a row, without the attestation document. */
exports.decryption = (row, cmkArn) => {
  const envelope = row?.sealed?.M?.[cmkArn]?.B;
  if (envelope === undefined) {
    throw new Error('there is no canary row for this CMK: does the key generator run?');
  }
  const bytes = Buffer.from(envelope);
  return {
    KeyId: cmkArn,
    CiphertextBlob: bytes.subarray(20, 20 + bytes.readUInt16BE(18)),
    EncryptionContext: {
      app: 'cloister',
      v: '1',
      purpose: 'wallet',
      service: 'key-generator',
      dek_id: bytes.toString('hex', 2, 18),
    },
    DryRun: true,
  };
};

exports.verdict = (outcome) => {
  if (outcome !== 'AccessDeniedException') {
    throw new Error(`KMS answered ${outcome} and not AccessDeniedException: the key's policy may let keys out`);
  }
};
