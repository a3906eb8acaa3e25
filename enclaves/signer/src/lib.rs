//! cloister-signer
