//! The size of a piece of memory that NGINX got from the system's allocator.
//!
//! Only the allocator that made a piece knows its size. Another allocator may replace libc's (`LD_PRELOAD`,
//! `-ljemalloc`), and not every allocator has `malloc_usable_size`. If it lacks that function, the name leads to libc's
//! function, which would take the bytes in front of a foreign piece for a size.

use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nginx_sys::ngx_pool_large_t;

use super::hook::address_of;
use super::live::{Live, get};
use super::zero::zeroed;

/// Whether sizes are known.
static IS_KNOWN: AtomicBool = AtomicBool::new(false);

/// The functions that `ngx_alloc` and `ngx_memalign` call, and the function that frees their memory.
const FAMILY: [&CStr; 4] = [c"malloc", c"free", c"posix_memalign", c"memalign"];

/// Finds out whether the allocator of this process tells sizes, which is so if all its functions are in one library.
/// Must be called when a worker starts.
pub fn look() -> bool {
    let sizes = library_of(c"malloc_usable_size");
    let is_known = sizes.is_some() && FAMILY.iter().all(|name| library_of(name) == sizes);
    IS_KNOWN.store(is_known, Relaxed);
    is_known
}

/// The start address of the library whose function of this name is called. `None` if there is no such function.
fn library_of(name: &CStr) -> Option<usize> {
    let function = address_of(name);
    let mut info: libc::Dl_info = zeroed();
    // SAFETY: `dladdr` only looks for the address, and fills the structure if it finds it.
    let is_found = !function.is_null() && unsafe { libc::dladdr(function, &mut info) } != 0;
    is_found.then(|| info.dli_fbase.addr())
}

/// The size of a large piece of memory of a pool, in bytes. 0 if the allocator does not tell it, or if the piece was
/// freed (`ngx_pfree`).
#[inline]
pub(super) fn size_of_large(large: Live<'_, ngx_pool_large_t>) -> usize {
    let piece: *mut c_void = get!(large, alloc);
    if piece.is_null() || !IS_KNOWN.load(Relaxed) {
        return 0;
    }
    // SAFETY: `ngx_alloc` and `ngx_memalign` have got the piece from the system's allocator. `look` has found that this
    // allocator also tells the size.
    unsafe { libc::malloc_usable_size(piece) }
}
