//! The lock of a ledger.

use accounting::traffic::Ledger;

use crate::nginx::mutex::Mutex;

/// The mutex of a ledger. If a thread ends while it has the mutex, the journal contains the part that it has begun.
pub fn of(ledger: &Ledger) -> Mutex<'_> {
    // SAFETY: the ledger has room for a mutex. It is in shared memory that stays mapped as long as the ledger is used.
    // `memory` has made the mutex when it made the ledger.
    unsafe { Mutex::at(ledger.lock()) }
}
