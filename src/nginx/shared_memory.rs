//! Shared memory of a configuration, which NGINX makes and hands on from one cycle to the next.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::NonNull;
use std::rc::Rc;

use nginx_sys::{NGX_ERROR, NGX_OK, ngx_int_t, ngx_log_t, ngx_shm_zone_t};

use super::conf::{Conf, Failed};
use super::functions;
use super::live::{Live, get};

/// What is made of shared memory for a `T`, once NGINX has it. Called by `ngx_init_cycle`.
pub trait Init<T>: 'static {
    /// `before`: that of the cycle before, if NGINX keeps its memory. NGINX does when name and size are the
    /// same, and this copy of the module had it.
    ///
    /// # Errors
    /// The configuration is refused, and the reason has been logged.
    fn init(memory: SharedMemory<'_>, of: &T, before: Option<&T>) -> Result<(), Failed>;
}

/// What NGINX keeps for us with shared memory.
#[repr(C)]
struct Kept<T, I> {
    /// tells memory of another kind that has the same name in the cycle before
    kind: usize,
    of: Rc<T>,
    init: PhantomData<I>,
}

/// Asks NGINX for shared memory for `of`. `None` if the configuration has memory of this name already.
///
/// # Errors
/// There is no memory, or NGINX has logged another reason.
pub fn add<T: 'static, I: Init<T>>(
    cf: &Conf<'_>,
    name: &[u8],
    bytes: usize,
    of: &Rc<T>,
) -> Result<Option<()>, Failed> {
    let kept = Kept { kind: kind::<T, I>(), of: of.clone(), init: PhantomData::<I> };
    cf.add_shared_memory(name, bytes, init::<T, I>, kept)
}

fn kind<T, I: Init<T>>() -> usize {
    init::<T, I> as unsafe extern "C" fn(_, _) -> _ as usize
}

unsafe extern "C" fn init<T, I: Init<T>>(zone: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `add` has put a `Kept` there. In the cycle before, one of this module's calls of `add` has put a
    // `Kept` of some kind there, which begins with the kind. Both are in pools that are still there, and change
    // through cells.
    let (zone, of, before) = unsafe {
        let before = data.cast::<usize>().as_ref().filter(|&&its| its == kind::<T, I>());
        let before = before.map(|_| &*(*data.cast::<Kept<T, I>>()).of);
        (Live::at(zone), &(*(*zone).data.cast::<Kept<T, I>>()).of, before)
    };
    match I::init(SharedMemory(zone), of, before) {
        Ok(()) => NGX_OK as ngx_int_t,
        Err(Failed) => NGX_ERROR as ngx_int_t,
    }
}

/// Bytes of a page of memory.
pub fn page_bytes() -> usize {
    global!(ngx_pagesize)
}

/// How large shared memory must be so that [`SharedMemory::take_all`] gives out so many bytes: the slab pool
/// takes its head and a descriptor of 24 bytes per page for itself.
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

    /// For how many bytes there is room in new memory.
    pub fn free_bytes(self) -> usize {
        get!(self.0.slab_pool(), pfree) * page_bytes()
    }

    /// Takes all of them as one piece, aligned to a page, if there are as many as `needed`. The slab allocator
    /// stays in place: `ngx_unlock_mutexes` looks at it when a worker dies.
    pub fn take_all(self, needed: usize) -> Option<NonNull<u8>> {
        let bytes = self.free_bytes();
        if bytes < needed {
            return None;
        }
        // a size of whole pages is served by `ngx_slab_alloc_pages`
        NonNull::new(functions::slab_alloc(self.0.slab_pool(), bytes).cast())
    }

    /// As [`SharedMemory::take_all`], all zero: a debugging slab allocator fills what it gives out
    /// (`ngx_slab_junk`).
    pub fn take_all_zeroed(self, needed: usize) -> Option<NonNull<u8>> {
        let base = self.take_all(needed)?;
        // SAFETY: at least as many bytes have been given out.
        unsafe { base.write_bytes(0, needed) };
        Some(base)
    }
}
