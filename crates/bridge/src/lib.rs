//! cloister-bridge
