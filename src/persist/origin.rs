//! The origin of this process: another binary, or another copy of this module, may have left memory for it.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::nginx::cycle::Cycle;
use crate::nginx::process;
use crate::persist::memory::Source;

/// Whether this process was executed by another NGINX, and is reading its first configuration. Only in that case is
/// there memory of a previous binary.
pub fn is_new_binary() -> bool {
    process::has_inherited() && Cycle::with_running(|running| running.is_none())
}

/// The process ID of the master that has executed this one, as long as both exist.
pub fn old_master() -> Option<u32> {
    (process::has_inherited() && process::has_first_parent()).then(|| process::parent().unsigned_abs())
}

/// The source of memory that was left, while the first configuration with this copy of the module is read.
pub fn source() -> Option<Source> {
    Cycle::with_running(|running| match running {
        None => process::has_inherited().then(|| Source::Parent(old_master())),
        Some(running) => (!running.has_module() && running.has_other_copy()).then_some(Source::SameProcess),
    })
}

/// Whether this process counts in accounts that the previous binary has left.
static GOES_ON: AtomicBool = AtomicBool::new(false);

/// Notes that this process counts in accounts that were left. If the previous binary has left them, its master may
/// share them.
pub fn goes_on() {
    GOES_ON.store(is_new_binary(), Relaxed);
}

/// Whether another master has workers that count in the same accounts: the one before or the one after a binary
/// upgrade.
///
/// Inherited sockets are no proof: a supervisor can hand them over too, and is then the parent
/// (`ngx_add_inherited_sockets`).
pub fn has_other_binary() -> bool {
    process::has_new_binary() || GOES_ON.load(Relaxed) && process::has_first_parent()
}
