//! cloister-attestation
