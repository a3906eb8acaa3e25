#![doc = include_str!("../README.md")]

mod address;
mod allow_list;
mod connection;
mod counters;
mod dial;
mod egress;
mod forward;
mod relay;

pub use address::{ConnectAddress, InvalidEndpoint, ListenAddress};
pub use allow_list::{AllowList, Destination, InvalidAllowList};
pub use connection::{Connection, Listener};
pub use counters::{Counters, Totals};
pub use egress::{Egress, Limits};
pub use forward::{BoundForward, Forward, ForwardLimits};
