//! Pools of memory.
//!
//! Not `ngx::core::Pool`: it has no lifetime, and does not tell how much memory a pool holds.

use core::ffi::c_void;
use core::ptr::NonNull;

use nginx_sys::{
    ngx_palloc, ngx_pnalloc, ngx_pool_cleanup_add, ngx_pool_cleanup_t, ngx_pool_large_t, ngx_pool_t,
};

use super::allocator;
use super::live::{Live, get, set};

/// As many large pieces of memory of a pool are looked at.
const MAX_LARGE: usize = 1000;

/// The type of the function that is called when a pool is destroyed.
pub type Cleanup = unsafe extern "C" fn(*mut c_void);

/// A pool of memory.
#[derive(Clone, Copy)]
pub struct Pool<'a>(Live<'a, ngx_pool_t>);

/// A value in a pool that is told when the pool is destroyed. It changes through cells only.
pub trait Pooled {
    /// The pool is being destroyed. Its memory is there still.
    fn end(&self);
}

/// What is done when a pool is destroyed.
pub trait AtEnd {
    /// Does it, with the number that was given for it.
    fn at_end(number: usize);
}

impl<'a> Pool<'a> {
    /// A pool that is there.
    #[inline]
    pub(super) fn of(pool: Live<'a, ngx_pool_t>) -> Pool<'a> {
        Pool(pool)
    }

    /// Puts a value into the pool, which is never dropped. `None` if there is no memory.
    #[inline]
    pub fn put<T>(self, value: impl FnOnce() -> T) -> Option<NonNull<T>> {
        const { assert!(align_of::<T>() <= align_of::<usize>() && !core::mem::needs_drop::<T>()) }
        // SAFETY: the pool is there. It gives out memory that is aligned to a word (`NGX_ALIGNMENT`).
        unsafe {
            let place = NonNull::new(ngx_palloc(self.0.as_ptr(), size_of::<T>()).cast::<T>())?;
            place.write(value());
            Some(place)
        }
    }

    /// Copies pieces of bytes into the pool, one after the other. `None` if there is no memory.
    #[inline]
    pub fn join(self, pieces: &[&[u8]]) -> Option<&'a mut [u8]> {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        // SAFETY: the pool is there. Nobody else has the memory that it gives out.
        unsafe {
            let start = NonNull::new(ngx_pnalloc(self.0.as_ptr(), len).cast::<u8>())?;
            let mut place = start.as_ptr();
            for piece in pieces {
                place.copy_from_nonoverlapping(piece.as_ptr(), piece.len());
                place = place.add(piece.len());
            }
            Some(core::slice::from_raw_parts_mut(start.as_ptr(), len))
        }
    }

    /// Calls `H` with a number when the pool is destroyed. `None` if there is no memory.
    pub fn at_end<H: AtEnd>(self, number: usize) -> Option<()> {
        unsafe extern "C" fn at_end<H: AtEnd>(data: *mut c_void) {
            H::at_end(data.addr());
        }
        let cleanup = self.add_cleanup(0)?;
        set!(cleanup, data, core::ptr::without_provenance_mut(number));
        set!(cleanup, handler, Some(at_end::<H> as Cleanup));
        Some(())
    }

    /// The value of this type in the pool, which is made if there is none. `None` if there is no memory.
    pub fn get_or_put<T: Pooled>(self, value: impl FnOnce() -> T) -> Option<&'a T> {
        unsafe extern "C" fn end<T: Pooled>(data: *mut c_void) {
            // SAFETY: it is called with the value, as is said below.
            if let Some(value) = unsafe { data.cast::<T>().as_ref() } {
                value.end();
            }
        }
        const { assert!(align_of::<T>() <= align_of::<usize>() && !core::mem::needs_drop::<T>()) }
        let data = match self.find(|handler| core::ptr::fn_addr_eq(handler, end::<T> as Cleanup)) {
            Some(data) => data,
            None => {
                let cleanup = self.add_cleanup(size_of::<T>())?;
                let data: *mut c_void = get!(cleanup, data);
                // SAFETY: the memory is for this value, and is aligned to a word (`NGX_ALIGNMENT`).
                unsafe { data.cast::<T>().write(value()) };
                set!(cleanup, handler, Some(end::<T> as Cleanup));
                data
            }
        };
        // SAFETY: written above, now or at an earlier call: no other value has this function.
        unsafe { data.cast::<T>().as_ref() }
    }

    /// The data of the first cleanup whose function is the one that is looked for.
    #[inline]
    pub fn find(self, is: impl Fn(Cleanup) -> bool) -> Option<*mut c_void> {
        let mut cleanup = self.0.first_cleanup();
        while let Some(this) = cleanup {
            if get!(this, handler).is_some_and(&is) {
                return Some(get!(this, data));
            }
            cleanup = this.next();
        }
        None
    }

    /// A cleanup with so many bytes of data, whose function is still to be set.
    fn add_cleanup(self, bytes: usize) -> Option<Live<'a, ngx_pool_cleanup_t>> {
        // SAFETY: the pool is there.
        unsafe { Live::new(ngx_pool_cleanup_add(self.0.as_ptr(), bytes)) }
    }

    /// Adds a cleanup that lies in memory of the pool, as `ngx_pool_cleanup_add` does with one that it makes.
    ///
    /// # Safety
    /// The cleanup must be in this pool, and in none of its lists.
    #[inline]
    pub unsafe fn link(self, cleanup: *mut ngx_pool_cleanup_t, handler: Cleanup, data: *mut c_void) {
        let next = get!(self.0, cleanup);
        // SAFETY: as the caller says.
        unsafe { cleanup.write(ngx_pool_cleanup_t { handler: Some(handler), data, next }) };
        set!(self.0, cleanup, cleanup);
    }

    /// Memory that the pool holds, in bytes. Large pieces are missing where the allocator does not tell their sizes.
    #[inline]
    pub fn held_bytes(self) -> usize {
        let mut bytes = 0;
        let mut block = Some(self.0);
        while let Some(this) = block {
            bytes += get!(this, d.end).addr() - this.as_ptr().addr();
            block = this.next_block();
        }
        self.0.first_large().map_or(bytes, |large| bytes + large_bytes(large))
    }
}

fn large_bytes(first: Live<'_, ngx_pool_large_t>) -> usize {
    let mut bytes = 0;
    let mut large = Some(first);
    for _ in 0..MAX_LARGE {
        let Some(this) = large else { break };
        let piece: *mut c_void = get!(this, alloc);
        // pieces may be freed (`ngx_pfree`)
        if !piece.is_null() {
            // SAFETY: `ngx_alloc` and `ngx_memalign` have got it from the system's allocator.
            bytes += unsafe { allocator::size_of_piece(piece) };
        }
        large = this.next();
    }
    bytes
}
