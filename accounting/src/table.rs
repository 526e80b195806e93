//! Accounts by key, in a region of memory that several processes share.
//!
//! The table takes no locks and removes no accounts. One compare-and-swap of a hash bucket publishes a key, after
//! its account is complete. A worker that dies before that costs one slot and nothing else.

mod before;
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
pub use before::TableBefore;
pub use error::Error;
pub use layout::{ACCOUNT_BYTES, NEVER};
pub use limits::Checked;
pub use listing::{Fill, Listing};
pub use lookup::{Found, Spare};
pub use region::Table;
pub use slot::Slot;

#[cfg(test)]
use self::{layout::*, lookup::*};

#[cfg(test)]
mod tests;
