//! cloister-sealing
