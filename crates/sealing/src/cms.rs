//! `CiphertextForRecipient` of AWS KMS: a CMS EnvelopedData (RFC 5652 §6) of one fixed shape, and
//! nothing else.
//!
//! KMS encrypts what an attested enclave asked for under the RSA key in its attestation document:
//! RSAES-OAEP with SHA-256 and MGF1-SHA-256 around a content key, AES-256-CBC around the content.
//! None of this is authenticated: anyone who knows the public key can make such a message. Its origin
//! rests on the TLS connection to KMS.
//!
//! Own code because no library reads it safely: RustCrypto's `cms` reads DER only, while KMS sends
//! indefinite lengths, and `rasn` is a general ASN.1 framework. One shape in 200 lines is less to
//! review, and leaves no choice to the sender.

mod ber;
mod enveloped_data;

use std::fmt;

use aws_lc_rs::cipher::{
    AES_256, AES_CBC_IV_LEN, DecryptingKey, DecryptionContext, UnboundCipherKey,
};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use subtle::{Choice, ConstantTimeEq as _, ConstantTimeGreater as _};
use zeroize::{Zeroize as _, Zeroizing};

use crate::data_key::KeyBytes;
use enveloped_data::EnvelopedData;

/// Longest message that is looked at, in bytes. One with a data key in it has fewer than 520.
pub const MAX_MESSAGE_LEN: usize = 8 * 1024;
/// Bytes of an RSA-2048 modulus and so of a wrapped content key.
const RSA_LEN: usize = 256;
/// Bytes of an AES block.
const BLOCK_LEN: usize = 16;

/// An RSA-2048 key pair that KMS encrypts to. Wiped by aws-lc when dropped.
pub struct RecipientKey {
    private: OaepPrivateDecryptingKey,
    public_key_der: Box<[u8]>,
}

impl RecipientKey {
    /// A new key pair. Takes as long as hundreds of unwraps: never on the path of a request.
    ///
    /// # Errors
    /// [`CmsError::RecipientKey`] if there is no randomness.
    pub fn generate() -> Result<Self, CmsError> {
        PrivateDecryptingKey::generate(KeySize::Rsa2048)
            .map_err(|_| CmsError::RecipientKey)
            .and_then(Self::new)
    }

    /// Reads a key pair from PKCS #8: for known-answer tests, an enclave makes its own.
    ///
    /// # Errors
    /// [`CmsError::RecipientKey`] unless it is RSA-2048.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, CmsError> {
        PrivateDecryptingKey::from_pkcs8(der)
            .map_err(|_| CmsError::RecipientKey)
            .and_then(Self::new)
    }

    fn new(private: PrivateDecryptingKey) -> Result<Self, CmsError> {
        if private.key_size_bytes() != RSA_LEN {
            return Err(CmsError::RecipientKey);
        }
        let public_key_der: PublicKeyX509Der<'_> = private
            .public_key()
            .as_der()
            .map_err(|_| CmsError::RecipientKey)?;
        Ok(Self {
            public_key_der: public_key_der.as_ref().into(),
            private: OaepPrivateDecryptingKey::new(private).map_err(|_| CmsError::RecipientKey)?,
        })
    }

    /// The public key as SubjectPublicKeyInfo (RFC 5280 §4.1), as in an attestation
    /// document.
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecipientKey(..)")
    }
}

/// Decrypts a message to its content, whatever that is. It proves nothing about who wrote it.
///
/// # Errors
/// [`CmsError::Structure`] for every other shape than the one KMS sends, [`CmsError::Decryption`]
/// when it was not encrypted to this key.
pub fn unwrap(key: &RecipientKey, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, CmsError> {
    let message = EnvelopedData::parse(message)?;

    let mut output = Zeroizing::new([0; RSA_LEN]);
    let content_key = key
        .private
        .decrypt(
            &OAEP_SHA256_MGF1SHA256,
            message.encrypted_key,
            output.as_mut_slice(),
            None,
        )
        .map_err(|_| CmsError::Decryption)?;
    let cipher = UnboundCipherKey::new(&AES_256, content_key)
        .and_then(DecryptingKey::cbc)
        .map_err(|_| CmsError::Decryption)?;

    let mut content = Zeroizing::new(message.ciphertext);
    let iv: [u8; AES_CBC_IV_LEN] = *message.iv;
    cipher
        .decrypt(&mut content, DecryptionContext::Iv128(iv.into()))
        .map_err(|_| CmsError::Decryption)?;
    remove_padding(&mut content)?;
    Ok(content)
}

/// Decrypts a message whose content is a data key of 32 bytes.
pub(crate) fn unwrap_data_key(key: &RecipientKey, message: &[u8]) -> Result<KeyBytes, CmsError> {
    KeyBytes::copy_from(&unwrap(key, message)?).ok_or(CmsError::ContentLength)
}

/// Removes the padding of RFC 5652 §6.3: 1 to 16 bytes, each the number of them. Takes the same
/// time wherever it is wrong.
fn remove_padding(content: &mut Vec<u8>) -> Result<(), CmsError> {
    let last = content
        .last_chunk::<BLOCK_LEN>()
        .ok_or(CmsError::Decryption)?;
    let padding = last[BLOCK_LEN - 1];
    let mut good = !padding.ct_eq(&0) & !padding.ct_gt(&16);
    for (place, byte) in (0u8..).zip(last.iter().rev()) {
        let is_content: Choice = !padding.ct_gt(&place);
        good &= is_content | byte.ct_eq(&padding);
    }
    if bool::from(good) {
        let length = content.len() - usize::from(padding);
        content[length..].zeroize();
        content.truncate(length);
        Ok(())
    } else {
        Err(CmsError::Decryption)
    }
}

/// A message that was not decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmsError {
    /// Not the one shape that is accepted; names the first part that is wrong.
    #[error("not a CiphertextForRecipient: {0}")]
    Structure(&'static str),
    /// Not encrypted to this key, or damaged. Says no more on purpose.
    #[error("the message does not decrypt")]
    Decryption,
    /// The content is not a data key of 32 bytes.
    #[error("the content is not a data key")]
    ContentLength,
    /// No RSA-2048 key could be made or read.
    #[error("no RSA-2048 key")]
    RecipientKey,
}

#[cfg(test)]
mod tests;
