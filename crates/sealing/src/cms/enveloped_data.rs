//! The one shape of EnvelopedData that KMS sends, in BER or DER.
//!
//! ```text
//! ContentInfo ::= SEQUENCE { envelopedData, [0] EXPLICIT EnvelopedData }                        RFC 5652 §3
//! EnvelopedData ::= SEQUENCE { version 2, SET { one KeyTransRecipientInfo }, EncryptedContentInfo }         §6.1
//! KeyTransRecipientInfo ::= SEQUENCE { version 2, [0] SubjectKeyIdentifier, RSAES-OAEP, OCTET STRING }    §6.2.1
//! EncryptedContentInfo ::= SEQUENCE { data, AES-256-CBC, [0] IMPLICIT OCTET STRING }                        §6.1
//! ```

use aws_lc_rs::cipher::AES_CBC_IV_LEN;

use super::ber::{
    CONTEXT_0, CONTEXT_0_CONSTRUCTED, CONTEXT_1_CONSTRUCTED, INTEGER, NULL, OBJECT_IDENTIFIER,
    OCTET_STRING, Reader, SEQUENCE, SET,
};
use super::{BLOCK_LEN, CmsError, MAX_MESSAGE_LEN, RSA_LEN};

/// The parts of a message that decryption needs.
pub(super) struct EnvelopedData<'a> {
    /// The content key under RSAES-OAEP.
    pub(super) encrypted_key: &'a [u8; RSA_LEN],
    /// The initialisation vector of AES-256-CBC.
    pub(super) iv: &'a [u8; AES_CBC_IV_LEN],
    /// The content under AES-256-CBC, its chunks joined; one block or more.
    pub(super) ciphertext: Vec<u8>,
}

impl<'a> EnvelopedData<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, CmsError> {
        if message.len() > MAX_MESSAGE_LEN {
            return Err(CmsError::Structure("length of the message"));
        }
        let mut reader = Reader::new(message);
        let parsed = reader.constructed(SEQUENCE, "ContentInfo", |info| {
            info.expect(OBJECT_IDENTIFIER, ENVELOPED_DATA, "content type")?;
            info.constructed(CONTEXT_0_CONSTRUCTED, "content", |content| {
                content.constructed(SEQUENCE, "EnvelopedData", enveloped_data)
            })
        })?;
        reader.end("bytes after the message")?;
        Ok(parsed)
    }
}

fn enveloped_data<'a>(reader: &mut Reader<'a>) -> Result<EnvelopedData<'a>, CmsError> {
    reader.expect(INTEGER, &[2], "version of EnvelopedData")?;
    let encrypted_key = reader.constructed(SET, "recipients", |recipients| {
        recipients.constructed(SEQUENCE, "recipient", recipient)
    })?;
    let (iv, ciphertext) =
        reader.constructed(SEQUENCE, "EncryptedContentInfo", encrypted_content)?;
    Ok(EnvelopedData {
        encrypted_key,
        iv,
        ciphertext,
    })
}

/// Gives the encrypted content key.
fn recipient<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8; RSA_LEN], CmsError> {
    reader.expect(INTEGER, &[2], "version of the recipient")?;
    // Which key is meant is not looked at: there is one, and it fits or does not.
    let key_identifier = reader.primitive(CONTEXT_0, "subject key identifier")?;
    if !(1..=64).contains(&key_identifier.len()) {
        return Err(CmsError::Structure("subject key identifier"));
    }
    reader.constructed(SEQUENCE, "key encryption algorithm", |algorithm| {
        algorithm.expect(OBJECT_IDENTIFIER, RSAES_OAEP, "key encryption algorithm")?;
        algorithm.constructed(SEQUENCE, "RSAES-OAEP parameters", oaep_parameters)
    })?;
    let encrypted_key = reader.primitive(OCTET_STRING, "encrypted key")?;
    encrypted_key
        .try_into()
        .map_err(|_| CmsError::Structure("length of the encrypted key"))
}

/// RSAES-OAEP-params (RFC 8017 §A.2.1): SHA-256, MGF1 with SHA-256, no label.
fn oaep_parameters(reader: &mut Reader<'_>) -> Result<(), CmsError> {
    reader.constructed(CONTEXT_0_CONSTRUCTED, "OAEP hash", sha256)?;
    reader.constructed(CONTEXT_1_CONSTRUCTED, "OAEP mask generation", |mask| {
        mask.constructed(SEQUENCE, "OAEP mask generation", |mask| {
            mask.expect(OBJECT_IDENTIFIER, MGF1, "OAEP mask generation")?;
            sha256(mask)
        })
    })
}

/// AlgorithmIdentifier of SHA-256; both with NULL and without parameters, as RFC 4055 §2.1 demands.
fn sha256(reader: &mut Reader<'_>) -> Result<(), CmsError> {
    reader.constructed(SEQUENCE, "OAEP hash", |algorithm| {
        algorithm.expect(OBJECT_IDENTIFIER, SHA256, "OAEP hash")?;
        match algorithm.peek() {
            Some(NULL) => algorithm.expect(NULL, &[], "OAEP hash"),
            _ => Ok(()),
        }
    })
}

/// Gives the initialisation vector and the ciphertext.
fn encrypted_content<'a>(
    reader: &mut Reader<'a>,
) -> Result<(&'a [u8; AES_CBC_IV_LEN], Vec<u8>), CmsError> {
    reader.expect(OBJECT_IDENTIFIER, DATA, "type of the encrypted content")?;
    let iv = reader.constructed(SEQUENCE, "content encryption algorithm", |algorithm| {
        algorithm.expect(
            OBJECT_IDENTIFIER,
            AES_256_CBC,
            "content encryption algorithm",
        )?;
        let iv = algorithm.primitive(OCTET_STRING, "initialisation vector")?;
        iv.try_into()
            .map_err(|_| CmsError::Structure("initialisation vector"))
    })?;
    let ciphertext = match reader.peek() {
        Some(CONTEXT_0) => reader.primitive(CONTEXT_0, "encrypted content")?.to_vec(),
        _ => reader.constructed(CONTEXT_0_CONSTRUCTED, "encrypted content", |chunks| {
            let mut joined = Vec::new();
            while chunks.peek() == Some(OCTET_STRING) {
                joined.extend_from_slice(
                    chunks.primitive(OCTET_STRING, "chunk of the encrypted content")?,
                );
            }
            Ok(joined)
        })?,
    };
    if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(BLOCK_LEN) {
        return Err(CmsError::Structure("length of the encrypted content"));
    }
    Ok((iv, ciphertext))
}

/// 1.2.840.113549.1.7.3 (RFC 5652 §6.1).
const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
/// 1.2.840.113549.1.7.1 (RFC 5652 §4).
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.1.7 (RFC 8017 §A.2.1).
const RSAES_OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
/// 1.2.840.113549.1.1.8 (RFC 8017 §A.2.1).
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
/// 2.16.840.1.101.3.4.2.1 (RFC 8017 §A.2.1).
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 2.16.840.1.101.3.4.1.42 (RFC 3565 §4.1).
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];
