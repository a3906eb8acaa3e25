//! An NSM for tests: it refuses every call except those that a test replaces.

use cloister_nsm::{Claims, Description, Nsm, NsmError, Pcr, Refusal};

#[expect(
    clippy::type_complexity,
    reason = "a closure for each call, as the trait has it"
)]
pub(crate) struct FakeNsm {
    pub(crate) attest: Box<dyn Fn(&Claims) -> Result<Vec<u8>, NsmError> + Send + Sync>,
    pub(crate) describe: Box<dyn Fn() -> Result<Description, NsmError> + Send + Sync>,
    pub(crate) describe_pcr: Box<dyn Fn(u16) -> Result<Pcr, NsmError> + Send + Sync>,
    pub(crate) random: Box<dyn Fn(&mut [u8]) -> Result<(), NsmError> + Send + Sync>,
}

impl Default for FakeNsm {
    fn default() -> Self {
        Self {
            attest: Box::new(|_| refused()),
            describe: Box::new(refused),
            describe_pcr: Box::new(|_| refused()),
            random: Box::new(|_| refused()),
        }
    }
}

impl Nsm for FakeNsm {
    fn describe(&self) -> Result<Description, NsmError> {
        (self.describe)()
    }

    fn random(&self, out: &mut [u8]) -> Result<(), NsmError> {
        (self.random)(out)
    }

    fn attest(&self, claims: &Claims) -> Result<Vec<u8>, NsmError> {
        (self.attest)(claims)
    }

    fn describe_pcr(&self, index: u16) -> Result<Pcr, NsmError> {
        (self.describe_pcr)(index)
    }

    fn extend_pcr(&self, _: u16, _: &[u8]) -> Result<[u8; 48], NsmError> {
        refused()
    }

    fn lock_pcr(&self, _: u16) -> Result<(), NsmError> {
        refused()
    }

    fn lock_pcrs(&self, _: u16) -> Result<(), NsmError> {
        refused()
    }
}

fn refused<T>() -> Result<T, NsmError> {
    Err(Refusal::InvalidOperation.into())
}
