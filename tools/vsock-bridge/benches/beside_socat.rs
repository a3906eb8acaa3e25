//! The bridge beside socat.

fn main() {}
