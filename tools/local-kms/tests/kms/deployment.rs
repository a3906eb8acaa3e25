//! The deployment the tests play, and its rendered policies.

use cloister_key_policy::{Deployment, Form, Measurements, Pcr0, render};

use crate::setup::{REGION, role};

pub(crate) const SIGNER: [u8; 48] = [0x51; 48];
pub(crate) const GENERATOR: [u8; 48] = [0x6e; 48];
pub(crate) const FOREIGN: [u8; 48] = [0xff; 48];
/// Measurement of a debug-mode enclave.
pub(crate) const DEBUG: [u8; 48] = [0; 48];

pub(crate) fn policy(form: Form) -> String {
    let deployment = Deployment {
        partition: "aws".into(),
        account: "111122223333".into(),
        region: REGION.into(),
        signer_role: role("signer"),
        generator_role: role("key-generator"),
        retirement_role: role("retirement"),
        administrator_role: role("administrator"),
    };
    let pcr0 = |bytes| Pcr0::try_from(bytes).unwrap();
    let measurements = Measurements::new(pcr0(SIGNER), pcr0(GENERATOR));
    render(&deployment, &measurements, form).unwrap()
}
