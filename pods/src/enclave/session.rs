//! The session value of the pod's enclave: random for a managed one, from a file for an external
//! one.

use std::path::Path;

use cloister_protocol::SessionValue;
use cloister_protocol::secret::SESSION_LEN;
use cloister_transport::Session;

use crate::error::PodError;

/// A value that nobody else knows, for one boot of a managed enclave.
pub(crate) fn random() -> Result<SessionValue, getrandom::Error> {
    let mut bytes = [0; SESSION_LEN];
    getrandom::fill(&mut bytes)?;
    Ok(SessionValue::new(bytes))
}

/// The session with an external enclave, which may have begun with an earlier pod.
pub(crate) fn from_file(path: &Path) -> Result<Session, PodError> {
    let text = std::fs::read_to_string(path).map_err(|source| PodError::Read {
        path: path.to_owned(),
        source,
    })?;
    let value = SessionValue::from_hex(text.trim_ascii()).map_err(|_| PodError::Session {
        path: path.to_owned(),
    })?;
    Ok(Session::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ() {
        assert!(!random().unwrap().matches(&random().unwrap()));
    }

    #[test]
    fn a_file_holds_exactly_one_value() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("session");
        assert!(matches!(from_file(&path), Err(PodError::Read { .. })));
        let digits = "0f".repeat(SESSION_LEN);
        for text in ["", "0f", &format!("{digits} {digits}"), &"0g".repeat(32)] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(from_file(&path), Err(PodError::Session { .. })));
        }
        std::fs::write(&path, format!("{digits}\n")).unwrap();
        let session = from_file(&path).unwrap();
        assert!(
            session
                .value()
                .matches(&SessionValue::new([0x0f; SESSION_LEN]))
        );
    }
}
