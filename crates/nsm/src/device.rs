//! The real module, behind `/dev/nsm`.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

use aws_nitro_enclaves_nsm_api::api::{self, ErrorCode, Request, Response};
use aws_nitro_enclaves_nsm_api::driver::nsm_process_request;
use zeroize::Zeroizing;

use crate::claims::Claims;
use crate::description::{Description, Digest, Pcr};
use crate::error::{NsmError, Refusal};
use crate::module::Nsm;
use crate::random::fill_random;

/// The module behind [`Device::PATH`]. The device is closed when this is dropped.
#[derive(Debug)]
pub struct Device {
    file: File,
}

impl Device {
    /// The device file of the kernel's driver.
    pub const PATH: &str = "/dev/nsm";

    /// Opens the device.
    ///
    /// # Errors
    /// [`NsmError::Open`] if it is missing or access is denied.
    pub fn open() -> Result<Self, NsmError> {
        let file = OpenOptions::new().read(true).write(true).open(Self::PATH);
        Ok(Self {
            file: file.map_err(|source| NsmError::Open {
                path: Self::PATH,
                source,
            })?,
        })
    }

    fn ask(&self, request: Request) -> Result<Response, NsmError> {
        match nsm_process_request(self.file.as_raw_fd(), request) {
            Response::Error(code) => Err(refusal(&code).into()),
            response => Ok(response),
        }
    }
}

impl Nsm for Device {
    fn describe(&self) -> Result<Description, NsmError> {
        description(self.ask(Request::DescribeNSM)?)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), NsmError> {
        fill_random(out, || random_chunk(self.ask(Request::GetRandom)?))
    }

    fn attest(&self, claims: &Claims) -> Result<Vec<u8>, NsmError> {
        claims.check_lengths()?;
        let Claims {
            user_data,
            nonce,
            public_key,
        } = claims.clone();
        document(self.ask(Request::Attestation {
            user_data: user_data.map(Into::into),
            nonce: nonce.map(Into::into),
            public_key: public_key.map(Into::into),
        })?)
    }

    fn describe_pcr(&self, index: u16) -> Result<Pcr, NsmError> {
        pcr(self.ask(Request::DescribePCR { index })?)
    }

    fn extend_pcr(&self, index: u16, data: &[u8]) -> Result<[u8; 48], NsmError> {
        extended(self.ask(Request::ExtendPCR {
            index,
            data: data.to_vec(),
        })?)
    }

    fn lock_pcr(&self, index: u16) -> Result<(), NsmError> {
        match self.ask(Request::LockPCR { index })? {
            Response::LockPCR => Ok(()),
            _ => Err(NsmError::UnexpectedAnswer {
                operation: "LockPCR",
            }),
        }
    }

    fn lock_pcrs(&self, range: u16) -> Result<(), NsmError> {
        match self.ask(Request::LockPCRs { range })? {
            Response::LockPCRs => Ok(()),
            _ => Err(NsmError::UnexpectedAnswer {
                operation: "LockPCRs",
            }),
        }
    }
}

fn description(response: Response) -> Result<Description, NsmError> {
    let Response::DescribeNSM {
        version_major,
        version_minor,
        version_patch,
        module_id,
        max_pcrs,
        locked_pcrs,
        digest,
    } = response
    else {
        return Err(NsmError::UnexpectedAnswer {
            operation: "DescribeNSM",
        });
    };
    let digest = match digest {
        api::Digest::SHA256 => Digest::Sha256,
        api::Digest::SHA384 => Digest::Sha384,
        api::Digest::SHA512 => Digest::Sha512,
    };
    Ok(Description {
        module_id,
        version: (version_major, version_minor, version_patch),
        max_pcrs,
        locked_pcrs,
        digest,
    })
}

fn random_chunk(response: Response) -> Result<Zeroizing<Vec<u8>>, NsmError> {
    match response {
        Response::GetRandom { random } => Ok(Zeroizing::new(random)),
        _ => Err(NsmError::UnexpectedAnswer {
            operation: "GetRandom",
        }),
    }
}

fn document(response: Response) -> Result<Vec<u8>, NsmError> {
    match response {
        Response::Attestation { document } => Ok(document),
        _ => Err(NsmError::UnexpectedAnswer {
            operation: "Attestation",
        }),
    }
}

fn pcr(response: Response) -> Result<Pcr, NsmError> {
    match response {
        Response::DescribePCR { lock, data } => Ok(Pcr {
            locked: lock,
            value: register(&data)?,
        }),
        _ => Err(NsmError::UnexpectedAnswer {
            operation: "DescribePCR",
        }),
    }
}

fn extended(response: Response) -> Result<[u8; 48], NsmError> {
    match response {
        Response::ExtendPCR { data } => register(&data),
        _ => Err(NsmError::UnexpectedAnswer {
            operation: "ExtendPCR",
        }),
    }
}

fn register(data: &[u8]) -> Result<[u8; 48], NsmError> {
    data.try_into()
        .map_err(|_| NsmError::RegisterLength { len: data.len() })
}

fn refusal(code: &ErrorCode) -> Refusal {
    match code {
        ErrorCode::InvalidArgument => Refusal::InvalidArgument,
        ErrorCode::InvalidIndex => Refusal::InvalidIndex,
        ErrorCode::InvalidResponse => Refusal::InvalidResponse,
        ErrorCode::ReadOnlyIndex => Refusal::ReadOnlyIndex,
        ErrorCode::InvalidOperation => Refusal::InvalidOperation,
        ErrorCode::BufferTooSmall => Refusal::BufferTooSmall,
        ErrorCode::InputTooLarge => Refusal::InputTooLarge,
        // "Success" as an error is a module that contradicts itself.
        ErrorCode::Success | ErrorCode::InternalError => Refusal::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_device_opening_says_which_file() {
        if std::path::Path::new(Device::PATH).exists() {
            Device::open().unwrap().describe().unwrap();
        } else {
            assert_eq!(
                Device::open().unwrap_err().to_string(),
                "cannot open /dev/nsm"
            );
        }
    }

    #[test]
    fn something_that_is_not_the_driver_is_an_error_on_every_call() {
        let device = Device {
            file: File::open("/dev/null").unwrap(),
        };
        assert!(matches!(
            device.describe(),
            Err(NsmError::Refused(Refusal::Internal))
        ));
        assert!(matches!(
            device.attest(&Claims::default()),
            Err(NsmError::Refused(Refusal::Internal))
        ));
        assert!(matches!(
            device.describe_pcr(0),
            Err(NsmError::Refused(Refusal::Internal))
        ));
        assert!(matches!(
            device.extend_pcr(16, b"data"),
            Err(NsmError::Refused(Refusal::Internal))
        ));
        assert!(matches!(
            device.lock_pcr(16),
            Err(NsmError::Refused(Refusal::Internal))
        ));
        assert!(matches!(
            device.lock_pcrs(16),
            Err(NsmError::Refused(Refusal::Internal))
        ));
        let mut out = [7; 32];
        assert!(matches!(
            device.random(&mut out),
            Err(NsmError::Refused(Refusal::Internal))
        ));
        assert_eq!(out, [0; 32]);
    }

    #[test]
    fn claims_that_are_too_long_never_reach_the_device() {
        let device = Device {
            file: File::open("/dev/null").unwrap(),
        };
        let claims = Claims {
            nonce: Some(vec![0; 513]),
            ..Claims::default()
        };
        assert!(matches!(
            device.attest(&claims),
            Err(NsmError::ClaimLength { claim: "nonce", .. })
        ));
    }

    #[test]
    fn answers_become_values() {
        let response = Response::DescribeNSM {
            version_major: 1,
            version_minor: 2,
            version_patch: 3,
            module_id: "i-0123456789abcdef0-enc0123456789abcdef".into(),
            max_pcrs: 32,
            locked_pcrs: (0..16).collect(),
            digest: api::Digest::SHA384,
        };
        let description = description(response).unwrap();
        assert_eq!(description.version, (1, 2, 3));
        assert_eq!(description.max_pcrs, 32);
        assert_eq!(description.locked_pcrs, (0..16).collect());
        assert_eq!(description.digest, Digest::Sha384);

        let response = Response::DescribePCR {
            lock: true,
            data: vec![9; 48],
        };
        assert_eq!(
            pcr(response).unwrap(),
            Pcr {
                locked: true,
                value: [9; 48]
            }
        );
        assert_eq!(
            extended(Response::ExtendPCR { data: vec![9; 48] }).unwrap(),
            [9; 48]
        );
        assert_eq!(
            document(Response::Attestation {
                document: vec![1, 2]
            })
            .unwrap(),
            [1, 2]
        );
        assert_eq!(
            *random_chunk(Response::GetRandom { random: vec![1, 2] }).unwrap(),
            [1, 2]
        );
    }

    #[test]
    fn answers_to_something_else_are_refused() {
        let other = || Response::LockPCR;
        assert!(matches!(
            description(other()),
            Err(NsmError::UnexpectedAnswer {
                operation: "DescribeNSM"
            })
        ));
        assert!(matches!(
            random_chunk(other()),
            Err(NsmError::UnexpectedAnswer {
                operation: "GetRandom"
            })
        ));
        assert!(matches!(
            document(other()),
            Err(NsmError::UnexpectedAnswer {
                operation: "Attestation"
            })
        ));
        assert!(matches!(
            pcr(other()),
            Err(NsmError::UnexpectedAnswer {
                operation: "DescribePCR"
            })
        ));
        assert!(matches!(
            extended(other()),
            Err(NsmError::UnexpectedAnswer {
                operation: "ExtendPCR"
            })
        ));
    }

    #[test]
    fn registers_of_another_hash_are_refused() {
        for len in [0, 32, 47, 49, 64] {
            let response = Response::DescribePCR {
                lock: true,
                data: vec![9; len],
            };
            assert!(
                matches!(pcr(response), Err(NsmError::RegisterLength { len: found }) if found == len)
            );
        }
    }
}
