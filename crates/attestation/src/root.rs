//! The trust root: the certificate that every document must chain to.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// A root certificate, pinned by the SHA-256 of its DER encoding.
///
/// There is no default, no list and no configuration behind it: a call of [`verify`](crate::verify)
/// trusts the one root that it was given. A document carries its root as the first entry of its
/// bundle, so the hash is enough.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustRoot {
    sha256: [u8; 32],
}

impl TrustRoot {
    /// The AWS Nitro Enclaves root G1 of the `aws` partition, valid from 2019 to 2049.
    pub fn aws() -> Self {
        Self {
            sha256: AWS_ROOT_G1_SHA256,
        }
    }

    /// Another root, DER: a software or emulated NSM's. Its documents prove nothing about any
    /// hardware, so only code that is meant to accept them may call this; production code calls
    /// [`TrustRoot::aws`].
    pub fn explicit(der: Vec<u8>) -> Self {
        Self {
            sha256: sha256(&der),
        }
    }

    pub(crate) fn is(&self, certificate: &[u8]) -> bool {
        sha256(certificate) == self.sha256
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({})", const_hex::encode(self.sha256))
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

/// SHA-256 of the DER of `certificates/aws-nitro-root-g1.pem`, as AWS publishes it:
/// <https://docs.aws.amazon.com/enclaves/latest/user/verify-root.html>.
const AWS_ROOT_G1_SHA256: [u8; 32] = match const_hex::const_decode_to_array(
    b"641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",
) {
    Ok(sha256) => sha256,
    Err(_) => panic!("not 32 bytes in hexadecimal"),
};

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn a2_the_pin_is_the_hash_of_the_published_root() {
        let pem = include_bytes!("../certificates/aws-nitro-root-g1.pem");
        let der = CertificateDer::from_pem_slice(pem).unwrap();
        assert!(TrustRoot::aws().is(&der));
        assert_eq!(TrustRoot::explicit(der.to_vec()), TrustRoot::aws());
        assert_eq!(
            format!("{:?}", TrustRoot::aws()),
            "TrustRoot(641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b)"
        );
    }
}
