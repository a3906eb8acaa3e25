//! Pod and enclave over unix sockets: what a connection does when both behave, and when the other
//! end does not.

#[cfg(test)]
mod egress;
#[cfg(test)]
mod enclave;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod session;
