//! cloister-transport
