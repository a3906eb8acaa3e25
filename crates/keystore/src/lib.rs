//! cloister-keystore
