//! cloister-client
