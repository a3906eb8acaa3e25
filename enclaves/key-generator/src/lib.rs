//! cloister-key-generator
