//! The throw-away certificate authority of the stack. Its root is a measured setting of the
//! enclaves, so it is kept; servers get new certificates at every start.

use std::path::PathBuf;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::data_dir::DataDir;

/// The certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A server's certificate and key, as files.
#[derive(Clone, Debug)]
pub struct ServerFiles {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

impl Authority {
    /// Loads the authority of this data directory; made the first time.
    ///
    /// # Errors
    /// If its files cannot be read, parsed or written.
    pub fn load(data: &DataDir) -> anyhow::Result<Self> {
        if let (Some(certificate), Some(key)) = (data.read(CERTIFICATE)?, data.read(KEY)?) {
            let key = KeyPair::from_pem(&key)
                .with_context(|| format!("{} is not a PEM key", data.path(KEY).display()))?;
            CertificateDer::from_pem_slice(certificate.as_bytes()).with_context(|| {
                format!(
                    "{} is not a PEM certificate",
                    data.path(CERTIFICATE).display()
                )
            })?;
            return Ok(Self {
                issuer: Issuer::new(authority(), key),
                certificate,
            });
        }
        let key = KeyPair::generate().context("failed to make a key pair")?;
        let certificate = authority()
            .self_signed(&key)
            .context("failed to sign the root certificate")?
            .pem();
        data.write(KEY, key.serialize_pem())?;
        data.write(CERTIFICATE, &certificate)?;
        Ok(Self {
            issuer: Issuer::new(authority(), key),
            certificate,
        })
    }

    /// The root certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A new certificate for the server called `part`, which answers to `names` and to 127.0.0.1.
    ///
    /// # Errors
    /// If it cannot be signed or written.
    pub fn server(
        &self,
        data: &DataDir,
        part: &str,
        names: &[&str],
    ) -> anyhow::Result<ServerFiles> {
        let names = names
            .iter()
            .copied()
            .chain(["127.0.0.1"])
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).context("a server name is malformed")?;
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Cloister local {part}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params);
        let key = KeyPair::generate().context("failed to make a key pair")?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("failed to sign a server's certificate")?;
        Ok(ServerFiles {
            certificate: data.write(&format!("pki/{part}.pem"), certificate.pem())?,
            key: data.write(&format!("pki/{part}-key.pem"), key.serialize_pem())?,
        })
    }
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(
        DnType::CommonName,
        "Cloister local root (this machine only)",
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params);
    params
}

/// Wide: the stack has to start on a machine whose clock is wrong, and its certificates are worth
/// nothing elsewhere.
fn validity(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
}

const CERTIFICATE: &str = "pki/ca.pem";
const KEY: &str = "pki/ca-key.pem";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_root_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        let first = Authority::load(&data).unwrap();
        let second = Authority::load(&data).unwrap();
        assert_eq!(first.certificate(), second.certificate());
        // The key is read first.
        for (file, complaint) in [
            (CERTIFICATE, "is not a PEM certificate"),
            (KEY, "is not a PEM key"),
        ] {
            let path = data.write(file, "damaged").unwrap();
            let error = Authority::load(&data).unwrap_err().to_string();
            assert_eq!(error, format!("{} {complaint}", path.display()));
        }
    }
}
