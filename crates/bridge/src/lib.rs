#![doc = include_str!("../README.md")]

mod allow_list;
mod counters;
mod dial;
mod egress;

pub use allow_list::{AllowList, Destination, InvalidAllowList};
pub use counters::{Counters, Totals};
pub use egress::{Egress, Limits};
