//! cloister-pods
