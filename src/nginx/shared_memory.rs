//! Shared memory of a configuration. NGINX makes it, and hands it on from one cycle to the next.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::NonNull;
use std::rc::Rc;

use nginx_sys::{NGX_ERROR, NGX_OK, ngx_int_t, ngx_log_t, ngx_shm_zone_t};

use super::conf::{Conf, Failed};
use super::functions;
use super::live::{Live, get};

/// The initialisation of shared memory for a `T`, when NGINX has made the memory. `ngx_init_cycle` calls it.
pub trait Init<T>: 'static {
    /// `before`: the value of the previous cycle, if NGINX keeps that cycle's memory. NGINX does so if name and size
    /// are the same, and the memory belonged to this copy of the module.
    ///
    /// # Errors
    /// The configuration is refused. The reason has been logged.
    fn init(memory: SharedMemory<'_>, of: &T, before: Option<&T>) -> Result<(), Failed>;
}

/// The data that NGINX keeps for us with shared memory.
#[repr(C)]
struct KeptMemory<T, I> {
    /// distinguishes memory of another kind that has the same name in the previous cycle
    kind: usize,
    of: Rc<T>,
    init: PhantomData<I>,
}

/// Asks NGINX for shared memory for `of`. Returns `None` if the configuration already has memory with this name.
///
/// # Errors
/// There is no memory, or NGINX has logged another reason.
pub fn add<T: 'static, I: Init<T>>(
    cf: &Conf<'_>,
    name: &[u8],
    bytes: usize,
    of: &Rc<T>,
) -> Result<Option<()>, Failed> {
    let kept = KeptMemory { kind: kind::<T, I>(), of: of.clone(), init: PhantomData::<I> };
    cf.add_shared_memory(name, bytes, init::<T, I>, kept)
}

fn kind<T, I: Init<T>>() -> usize {
    init::<T, I> as unsafe extern "C" fn(_, _) -> _ as usize
}

unsafe extern "C" fn init<T, I: Init<T>>(zone: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `add` has put a `KeptMemory` there. In the previous cycle, one of this module's calls of `add` has put a
    // `KeptMemory` of some kind there, which begins with the kind. Both are in pools that still exist, and change
    // through cells.
    let (zone, of, before) = unsafe {
        let before = data.cast::<usize>().as_ref().filter(|&&its| its == kind::<T, I>());
        let before = before.map(|_| &*(*data.cast::<KeptMemory<T, I>>()).of);
        (Live::at(zone), &(*(*zone).data.cast::<KeptMemory<T, I>>()).of, before)
    };
    match I::init(SharedMemory(zone), of, before) {
        Ok(()) => NGX_OK as ngx_int_t,
        Err(Failed) => NGX_ERROR as ngx_int_t,
    }
}

/// The size of a page of memory, in bytes.
pub fn page_bytes() -> usize {
    global!(ngx_pagesize)
}

/// The size of shared memory with which [`SharedMemory::take_all`] gives out this many bytes. The slab pool uses memory
/// for its head and for a descriptor of 24 bytes per page.
pub fn with_slab_pool(bytes: usize) -> usize {
    (bytes + bytes / 64).next_multiple_of(page_bytes()) + 4 * page_bytes()
}

/// Shared memory that NGINX has made.
#[derive(Clone, Copy)]
pub struct SharedMemory<'a>(Live<'a, ngx_shm_zone_t>);

impl SharedMemory<'_> {
    /// The log of the cycle that is being made.
    pub fn log(self) -> *mut ngx_log_t {
        get!(self.0, shm.log)
    }

    /// The number of bytes that are free in new memory.
    pub fn free_bytes(self) -> usize {
        get!(self.0.slab_pool(), pfree) * page_bytes()
    }

    /// Takes all free memory as one piece, aligned to a page. `None` if this is less than `needed` bytes. The slab
    /// allocator stays in place, because `ngx_unlock_mutexes` reads it when a worker dies.
    pub fn take_all(self, needed: usize) -> Option<NonNull<u8>> {
        let bytes = self.free_bytes();
        if bytes < needed {
            return None;
        }
        // `ngx_slab_alloc_pages` serves a size of whole pages.
        NonNull::new(functions::slab_alloc(self.0.slab_pool(), bytes).cast())
    }

    /// As [`SharedMemory::take_all`], but all bytes are zero. A slab allocator for debugging fills the memory that it
    /// gives out (`ngx_slab_junk`).
    pub fn take_all_zeroed(self, needed: usize) -> Option<NonNull<u8>> {
        let base = self.take_all(needed)?;
        // SAFETY: At least `needed` bytes have been given out.
        unsafe { base.write_bytes(0, needed) };
        Some(base)
    }
}
