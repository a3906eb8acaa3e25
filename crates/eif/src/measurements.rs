//! The registers as the hypervisor computes them.

use std::fmt;

use sha2::{Digest as _, Sha384};

/// The registers of an image. Those of an enclave in debug mode are zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Measurements {
    /// The whole image.
    pub pcr0: [u8; 48],
    /// Kernel, command line and first ramdisk.
    pub pcr1: [u8; 48],
    /// The other ramdisks.
    pub pcr2: [u8; 48],
    /// The signing certificate; only signed images have it.
    pub pcr8: Option<[u8; 48]>,
}

impl Measurements {
    /// <https://docs.aws.amazon.com/enclaves/latest/user/set-up-attestation.html#where>
    pub(crate) fn of(
        kernel: &[u8],
        command_line: &[u8],
        ramdisks: &[&[u8]],
        certificate: Option<&[u8]>,
    ) -> Self {
        let boot = [kernel, command_line];
        let (first, others) = ramdisks.split_at(ramdisks.len().min(1));
        Self {
            pcr0: register(&[&boot, first, others].concat()),
            pcr1: register(&[&boot, first].concat()),
            pcr2: register(others),
            pcr8: certificate.map(|der| register(&[der])),
        }
    }

    /// The first register that differs from `expected`, if any.
    pub(crate) fn difference(&self, expected: &Self) -> Option<Difference> {
        let mine = [
            (0, Some(self.pcr0)),
            (1, Some(self.pcr1)),
            (2, Some(self.pcr2)),
            (8, self.pcr8),
        ];
        let theirs = [
            Some(expected.pcr0),
            Some(expected.pcr1),
            Some(expected.pcr2),
            expected.pcr8,
        ];
        let mut pairs = mine.into_iter().zip(theirs);
        pairs.find_map(|((register, found), expected)| {
            (found != expected).then_some(Difference {
                register,
                found,
                expected,
            })
        })
    }
}

impl fmt::Debug for Measurements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measurements")
            .field("pcr0", &const_hex::encode(self.pcr0))
            .field("pcr1", &const_hex::encode(self.pcr1))
            .field("pcr2", &const_hex::encode(self.pcr2))
            .field("pcr8", &self.pcr8.map(const_hex::encode))
            .finish()
    }
}

/// A register with another value than expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PCR{register} is {}, expected was {}", value(found), value(expected))]
pub struct Difference {
    /// The register's number.
    pub register: u8,
    /// The image's value; none in PCR8 of an unsigned image.
    pub found: Option<[u8; 48]>,
    /// The expected value.
    pub expected: Option<[u8; 48]>,
}

fn value(register: &Option<[u8; 48]>) -> String {
    register.map_or_else(|| "unset (not signed)".to_owned(), const_hex::encode)
}

/// A register that starts with zeros and is extended once: SHA-384(0^48 ‖ SHA-384(content)).
fn register(content: &[&[u8]]) -> [u8; 48] {
    let mut hash = Sha384::new();
    content.iter().for_each(|part| hash.update(part));
    Sha384::new()
        .chain_update([0; 48])
        .chain_update(hash.finalize())
        .finalize()
        .into()
}
