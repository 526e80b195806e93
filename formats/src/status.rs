//! The status document: JSON with the server, its workers, and its zones with their accounts.
//!
//! Its members, their order and their units are declared here: those of an account by the table of counters, those
//! of the other objects in `members.rs`. [`write`](mod@write) writes a document piece by piece, and
//! [`Document::read`] reads one.

mod account;
mod members;
mod read;
pub mod write;

pub use account::{Account, Limit, Shown, Signal};
pub(crate) use account::{LIMIT, MAX_DEBT, REFUSED, SIGNAL, TALLY_CPU};
pub use members::{Member, Server, Worker, Zone};
pub use read::{AccountMembers, Document, ZoneRead};

/// The members that hold other objects.
pub(crate) mod names {
    pub(crate) const WORKERS: &str = "workers";
    pub(crate) const ZONES: &str = "zones";
    pub(crate) const KEYS: &str = "keys";
    pub(crate) const WINDOWS: &str = "windows";
    pub(crate) const ERROR: &str = "error";
    /// Documents of later versions may say their version.
    pub(crate) const FORMAT: &str = "format";
}

#[cfg(test)]
mod tests;
