//! cloister-local-kms
