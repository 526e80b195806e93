//! The lock of a ledger.

use accounting::traffic::Ledger;

use crate::nginx::mutex::Mutex;

/// The mutex of a ledger. A thread that ends while it has the mutex leaves in the journal what it has begun.
pub fn of(ledger: &Ledger) -> Mutex<'_> {
    // SAFETY: the ledger has as much room for a mutex, in shared memory that is mapped as long as the ledger is
    // used. `memory` has made the mutex when it made the ledger.
    unsafe { Mutex::at(ledger.lock()) }
}
