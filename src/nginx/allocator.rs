//! How large a piece of memory is that NGINX got from the system's allocator.
//!
//! Only the allocator that made a piece knows that. Another one than libc's may be in its place (`LD_PRELOAD`,
//! `-ljemalloc`), and not every one has `malloc_usable_size`: then the name leads to libc's, which takes what lies
//! in front of a foreign piece for a size of its own.

use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

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
    // SAFETY: a string that ends with NUL; all zero is a valid `Dl_info`, which is only read if it was filled.
    unsafe {
        let function = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        let mut info: libc::Dl_info = core::mem::zeroed();
        (!function.is_null() && libc::dladdr(function, &mut info) != 0).then(|| info.dli_fbase.addr())
    }
}

/// Bytes of a piece of memory; 0 where the allocator does not tell.
///
/// # Safety
/// `piece` must be null or have come from `ngx_alloc` or `ngx_memalign`, and not have been freed.
#[inline]
pub unsafe fn size_of_piece(piece: *mut c_void) -> usize {
    if IS_KNOWN.load(Relaxed) {
        // SAFETY: as the caller says, and `look` has found that it is the same allocator's.
        unsafe { libc::malloc_usable_size(piece) }
    } else {
        0
    }
}
