//! The validity of a signing certificate.

use std::fmt;
use std::time::{Duration, SystemTime};

use x509_cert::Certificate;
use x509_cert::der::{DateTime, Decode as _};

/// A signing certificate that has expired or soon will: the hypervisor does not start an image
/// whose certificate is not valid, so a running enclave cannot be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateWarning {
    end: DateTime,
    expired: bool,
}

impl CertificateWarning {
    /// Certificates that end sooner than this are warned about.
    pub const PERIOD: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// The end of the certificate's validity.
    pub fn not_after(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.end.unix_duration()
    }

    /// None for bytes that are not a certificate, which the hypervisor refuses.
    pub(crate) fn of(der: &[u8], now: SystemTime) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let end = certificate
            .tbs_certificate()
            .validity()
            .not_after
            .to_date_time();
        let ends_before = |time: SystemTime| SystemTime::UNIX_EPOCH + end.unix_duration() < time;
        ends_before(now + Self::PERIOD).then_some(Self {
            end,
            expired: ends_before(now),
        })
    }
}

impl fmt::Display for CertificateWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.end;
        if self.expired {
            write!(f, "the signing certificate expired at {end}")
        } else {
            write!(f, "the signing certificate expires soon, at {end}")
        }
    }
}
