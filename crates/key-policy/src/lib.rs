//! cloister-key-policy
