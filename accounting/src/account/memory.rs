//! Where the counters are in the memory of an account, also in an account of another release.
//!
//! All releases with the same magic number of the table have the same [`Account`], but for the counters at its end:
//! releases only append to these. So the number of the appended counters describes an account.

use core::mem::size_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use formats::counters::{COUNTERS as TABLE, LEN, first_cell};

use super::cells::Account;
use super::totals::{COUNTERS, Totals};

/// Bytes of a cell.
const CELL: usize = size_of::<AtomicU64>();

/// Bytes of an account with so many appended counters.
pub(crate) const fn account_bytes(appended: usize) -> usize {
    (Account::APPENDED_AT + appended * CELL).next_multiple_of(align_of::<Account>())
}

const _: () = assert!(account_bytes(Account::APPENDED) == size_of::<Account>());

/// Reads the counters of an account with so many appended counters. Counters that it does not have are 0.
///
/// # Safety
/// The account must be readable, aligned to 8 bytes, and only change through atomics.
pub(crate) unsafe fn read_totals(account: NonNull<u8>, appended: usize) -> Totals {
    let mut totals = Totals([0; COUNTERS]);
    let end = Account::APPENDED_AT + appended * CELL;
    // from the end, as in `Account::totals`
    for row in (0..LEN).rev() {
        let (at, first) = (Account::OFFSETS[row], first_cell(row));
        let cells = TABLE.get(row).map_or(0, |counter| counter.shape.cells());
        if at + cells * CELL > end {
            continue;
        }
        for (n, total) in totals.0.iter_mut().skip(first).take(cells).enumerate() {
            // SAFETY: the cell ends before the account's end, at a multiple of 8 bytes; the caller promises the rest.
            *total = unsafe { account.add(at + n * CELL).cast::<AtomicU64>().as_ref() }.load(Relaxed);
        }
    }
    totals
}
