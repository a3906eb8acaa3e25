//! Whole pods between an HTTPS caller and an enclave that the test plays.

#[cfg(test)]
mod authentication;
#[cfg(test)]
mod aws;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod enclave;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod key_probe;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod load;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod managed;
#[cfg(test)]
mod nitro_cli;
#[cfg(test)]
mod pod;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod tls;
