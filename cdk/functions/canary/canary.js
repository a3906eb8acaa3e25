// The envelope is that of crates/sealing/SPEC.md, §1; the encryption context that of §2.

/** A dry run of opening the data key of a row, exactly as the signer's enclave would open it, but for the attestation document. */
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
