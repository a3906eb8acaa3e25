#![doc = include_str!("../README.md")]

mod certificate;
mod expected;
mod image;
mod measurements;
mod signature;

pub use certificate::CertificateWarning;
pub use cloister_contract::Architecture;
pub use expected::{ExpectedMeasurements, ExpectedMeasurementsError};
pub use image::{Eif, EifError};
pub use measurements::{Difference, Measurements};
