//! cloister-layering-test
