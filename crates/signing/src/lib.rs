//! cloister-signing
