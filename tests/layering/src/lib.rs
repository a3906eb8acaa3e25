//! The rules of the workspace's layout, as tests: who may depend on whom, and what the measured
//! binaries consist of.
