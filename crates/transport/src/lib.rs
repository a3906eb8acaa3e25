#![doc = include_str!("../README.md")]

mod address;
mod binding;
mod budget;
mod client;
mod codec;
mod connection;
mod egress;
mod error;
mod exchange;
mod outgoing;
mod server;
mod session;
mod stream;
mod turns;

pub use address::{Address, InvalidAddress};
pub use budget::{ByteBudget, Charge, MIN_BUDGET};
pub use client::Client;
pub use codec::Deadlines;
pub use egress::EgressPool;
pub use error::{Stage, TransportError};
pub use exchange::{read_frame, write_frame};
pub use server::{Handler, Limits, Server};
pub use session::Session;
pub use stream::{Listener, Stream};
