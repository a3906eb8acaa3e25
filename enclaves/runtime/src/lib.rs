//! cloister-runtime
