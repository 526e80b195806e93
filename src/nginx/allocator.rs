//! How large a piece of memory is that NGINX got from the system's allocator.
//!
//! Only the allocator that made a piece knows that. Another one than libc's may be in its place (`LD_PRELOAD`,
//! `-ljemalloc`), and not every one has `malloc_usable_size`: then the name leads to libc's, which takes what lies
//! in front of a foreign piece for a size of its own.

use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nginx_sys::ngx_pool_large_t;

use super::hook::address_of;
use super::live::{Live, get};
use super::zero::zeroed;

/// Whether sizes may be asked for.
static IS_KNOWN: AtomicBool = AtomicBool::new(false);

/// What `ngx_alloc` and `ngx_memalign` call, and what frees that.
const FAMILY: [&CStr; 4] = [c"malloc", c"free", c"posix_memalign", c"memalign"];

/// Finds out whether the allocator of this process tells sizes: whether all of it is of one library. To be called
/// when a worker starts.
pub fn look() -> bool {
    let sizes = library_of(c"malloc_usable_size");
    let is_known = sizes.is_some() && FAMILY.iter().all(|name| library_of(name) == sizes);
    IS_KNOWN.store(is_known, Relaxed);
    is_known
}

/// Where the library begins whose function of this name is called; None if there is no such function.
fn library_of(name: &CStr) -> Option<usize> {
    let function = address_of(name);
    let mut info: libc::Dl_info = zeroed();
    // SAFETY: it looks for the address only, and fills the structure if it finds something.
    let is_found = !function.is_null() && unsafe { libc::dladdr(function, &mut info) } != 0;
    is_found.then(|| info.dli_fbase.addr())
}

/// Bytes of a large piece of memory of a pool; 0 where the allocator does not tell, and if the piece was freed
/// (`ngx_pfree`).
#[inline]
pub(super) fn size_of_large(large: Live<'_, ngx_pool_large_t>) -> usize {
    let piece: *mut c_void = get!(large, alloc);
    if piece.is_null() || !IS_KNOWN.load(Relaxed) {
        return 0;
    }
    // SAFETY: `ngx_alloc` and `ngx_memalign` have got it from the system's allocator. `look` has found that this is the
    // allocator that tells the size.
    unsafe { libc::malloc_usable_size(piece) }
}
