//! The status document: JSON with the server, its workers, and its zones with their accounts.
//!
//! The members, their order and their units are declared here. The table of counters declares those of an account, and
//! `members.rs` those of the other objects. [`write`](mod@write) writes a document piece by piece, and
//! [`Document::read`] reads one.

mod account;
mod members;
pub(crate) mod names;
mod object;
mod read;
pub mod write;

pub use account::{Account, Limit, Shown, Signal};
pub(crate) use account::{LIMIT, MAX_DEBT, REFUSED, SIGNAL, TALLY_CPU};
pub use members::{Member, Server, Worker, Zone};
pub use read::{AccountMembers, Document, ZoneRead};

#[cfg(test)]
mod tests;
