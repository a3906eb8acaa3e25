//! API Gateway stand-in.
