//! Accounts by key, in a region of memory that several processes share.
//!
//! No lock is ever taken, and nothing is ever removed. A key is committed by one compare-and-swap of its bucket, after
//! its account is complete; a worker that dies before that has used up a slot and nothing else.

mod error;
mod layout;
mod limits;
mod listing;
mod lookup;
mod region;
mod settings;
mod slot;
mod upkeep;

pub use crate::threshold::ACTIVE_THRESHOLD_NS;
pub use error::Error;
pub use layout::{ACCOUNT_BYTES, NEVER};
pub use limits::Checked;
pub use listing::{Fill, Listing};
pub use lookup::{Found, Spare};
pub use region::{Table, TableBefore};
pub use slot::Slot;

#[cfg(test)]
use self::{layout::*, lookup::*};

#[cfg(test)]
mod tests;
