//! A wallet key in a sealed row, as the signer receives it, with a data key that needs no KMS.

use cloister_protocol::message::Signed;
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{CallerSecret, KeyId, PrivateKey, Rejection, SealedRow, Verifier};
use cloister_sealing::{
    Capabilities, DataKey, DekId, Origin, RowContents, RowHeader, hazmat, open_with, seal,
};
use cloister_signer::{Failures, PendingSignature};
use cloister_signing::address;

pub(crate) const CMK_ARN: &str =
    "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
/// The time of every request, in seconds since the Unix epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) struct Wallet {
    pub(crate) key_id: KeyId,
    pub(crate) secret: CallerSecret,
    pub(crate) row: SealedRow,
    pub(crate) data_key: DataKey,
}

impl Wallet {
    pub(crate) fn new(key: PrivateKey, capabilities: Capabilities) -> Self {
        Self::named(KeyId::from_random_bytes([7; 16]), key, capabilities)
    }

    pub(crate) fn named(key_id: KeyId, key: PrivateKey, capabilities: Capabilities) -> Self {
        let secret = CallerSecret::new("9779d2b8f0bc495b1691ce1a2baf8004".to_owned().into())
            .expect("32 characters");
        let header = RowHeader {
            key_id,
            address: address(&key),
            origin: Origin::Generated,
            version: 1,
        };
        let contents = RowContents {
            key,
            verifier: Verifier::derive(&secret, key_id),
            capabilities,
        };
        let dek_id = DekId::from_bytes([1; 16]);
        let fresh = hazmat::fresh_data_key(dek_id, b"wrapped", CMK_ARN, &mut [2; 32]);
        let envelope = seal(&header, &contents, fresh).expect("the address is the key's");
        let row = SealedRow {
            key_id,
            address: header.address,
            version: header.version,
            created_at: NOW,
            sealed: [(CMK_ARN.to_owned(), envelope)].into(),
        };
        Self {
            key_id,
            secret,
            row,
            data_key: hazmat::data_key(dek_id, b"wrapped", CMK_ARN, &mut [2; 32]),
        }
    }

    /// A request to sign `payload`, as the front door makes it.
    pub(crate) fn request(&self, payload: &str) -> AuthenticatedRequest {
        AuthenticatedRequest::new(self.key_id, &self.secret, NOW, payload)
    }

    /// The row as the pod sends it with a request.
    pub(crate) fn row_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.row).expect("strings and numbers only")
    }

    /// Request bytes in, response bytes out, with the data key at hand.
    pub(crate) fn answer(
        &self,
        request: &[u8],
        row: &[u8],
        failures: &Failures,
    ) -> Result<Vec<u8>, Rejection> {
        let request = PendingSignature::parse(request, row, NOW)?;
        let opened = open_with(request.row(), &self.data_key)?;
        request.answer(&opened, failures)
    }

    pub(crate) fn sign(&self, payload: &str) -> Result<Signed, Rejection> {
        let answer = self.answer(
            &self.request(payload).to_json(),
            &self.row_json(),
            &Failures::new(),
        )?;
        Ok(serde_json::from_slice(&answer).expect("the answer is of the protocol's form"))
    }
}
