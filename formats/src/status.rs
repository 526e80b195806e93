//! The status document: JSON with the server, its workers, and its zones with their accounts.
//!
//! Its members, their order and their units are declared here: those of an account by the table of counters, those
//! of the other objects in `members.rs`. [`write`](mod@write) writes a document piece by piece, and
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
