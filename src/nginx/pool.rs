//! Memory pools.

use core::any::TypeId;
use core::ffi::c_void;
use core::ptr::NonNull;

use nginx_sys::{ngx_pool_cleanup_t, ngx_pool_large_t, ngx_pool_t};

use super::callback::callback;
use super::live::{Live, get, set};
use super::{allocator, functions};

/// The largest number of large pieces of memory of a pool that are counted.
const MAX_LARGE: usize = 1000;

/// The type of the function that is called when a pool is destroyed.
pub type Cleanup = unsafe extern "C" fn(*mut c_void);

/// A memory pool.
#[derive(Clone, Copy)]
pub struct Pool<'a>(Live<'a, ngx_pool_t>);

#[cfg(ngx_feature = "http_v2")]
/// A value in a pool. A function of the value is called when the pool is destroyed. The value changes through cells
/// only.
pub trait Pooled: 'static {
    /// The pool is being destroyed. Its memory still exists.
    fn end(&self);
}

/// An action when a pool is destroyed.
pub trait AtEnd {
    /// Runs the action, with the number that was given to [`Pool::at_end`].
    fn at_end(number: usize);
}

impl<'a> Pool<'a> {
    /// A pool that has not been destroyed.
    #[inline]
    pub(super) fn of(pool: Live<'a, ngx_pool_t>) -> Pool<'a> {
        Pool(pool)
    }

    /// Puts a value into the pool. The value is never dropped. `None` if there is no memory.
    #[inline]
    pub fn put<T>(self, value: impl FnOnce() -> T) -> Option<NonNull<T>> {
        const { assert!(!core::mem::needs_drop::<T>()) }
        NonNull::new(self.put_live(value)?.as_ptr())
    }

    /// As [`Pool::put`].
    #[inline]
    pub(super) fn put_live<T>(self, value: impl FnOnce() -> T) -> Option<Live<'a, T>> {
        const { assert!(align_of::<T>() <= align_of::<usize>()) }
        let place = functions::palloc(self.0, size_of::<T>());
        // SAFETY: The pointer leads to memory for this value, which is aligned to a word and lives as long as the pool;
        // or it is null.
        let place = unsafe { Live::new(place.cast::<T>()) }?;
        place.write(value());
        Some(place)
    }

    /// Copies pieces of bytes into the pool, one after the other. `None` if there is no memory.
    #[inline]
    pub fn join(self, pieces: &[&[u8]]) -> Option<&'a mut [u8]> {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let start = NonNull::new(functions::pnalloc(self.0, len).cast::<u8>())?;
        // SAFETY: This is memory for `len` bytes, which nobody else uses.
        unsafe {
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
        callback! {
            fn at_end<H: AtEnd>(data: *mut c_void) {
                H::at_end(data.addr());
            }
        }
        let cleanup = functions::pool_cleanup_add(self.0, 0)?;
        set!(cleanup, data, core::ptr::without_provenance_mut(number));
        set!(cleanup, handler, Some(at_end::<H> as Cleanup));
        Some(())
    }

    #[cfg(ngx_feature = "http_v2")]
    /// The value of this type in the pool. If there is none, it is made. `None` if there is no memory.
    pub fn get_or_put<T: Pooled>(self, value: impl FnOnce() -> T) -> Option<&'a T> {
        let ended = self.find_kept(|_| true).or_else(|| self.keep(Ended(value())))?;
        Some(&ended.0)
    }

    /// Keeps a value in the pool, and drops it when the pool is destroyed. Values that were kept later are dropped
    /// first. The value changes through cells only. `None` if there is no memory.
    pub(super) fn keep<T: 'static>(self, value: T) -> Option<&'a T> {
        let kept = self.put_with(InPool { of: TypeId::of::<T>(), value }, drop_kept::<T>)?;
        // SAFETY: The value was just put there. Only `drop_kept` changes it.
        Some(unsafe { &(*kept.as_ptr()).value })
    }

    /// The first kept value of this type for which `is` returns true.
    pub(super) fn find_kept<T: 'static>(self, is: impl Fn(&T) -> bool) -> Option<&'a T> {
        let mut cleanup = self.0.first_cleanup();
        while let Some(this) = cleanup {
            let is_kept = |handler| core::ptr::fn_addr_eq(handler, drop_kept::<T> as Cleanup);
            if get!(this, handler).is_some_and(is_kept) {
                let data: *mut c_void = get!(this, data);
                // SAFETY: `keep` has put a value there. The value may be of another type, since the compiler may merge
                // functions of equal code. The type's identity at the beginning shows its type.
                let value = unsafe {
                    let is_such = data.cast::<TypeId>().read() == TypeId::of::<T>();
                    is_such.then(|| &(*data.cast::<InPool<T>>()).value)
                };
                if value.is_some_and(&is) {
                    return value;
                }
            }
            cleanup = this.next();
        }
        None
    }

    /// Puts a value into the pool, and makes the pool call a function with it when the pool is destroyed.
    fn put_with<T>(self, value: T, handler: Cleanup) -> Option<Live<'a, T>> {
        let cleanup = functions::pool_cleanup_add(self.0, 0)?;
        let place = self.put_live(|| value)?;
        set!(cleanup, data, place.as_ptr().cast());
        set!(cleanup, handler, Some(handler));
        Some(place)
    }

    /// The data of the first cleanup for whose function `is` returns true.
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

    /// Adds a cleanup that is in memory of the pool already. `ngx_pool_cleanup_add` does the same with a cleanup that
    /// it makes.
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

    /// Memory that the pool holds, in bytes. If the allocator does not tell the sizes of large pieces, these are not
    /// counted.
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

#[cfg(ngx_feature = "http_v2")]
/// A value whose [`Pooled::end`] is called when its pool is destroyed.
struct Ended<T: Pooled>(T);

#[cfg(ngx_feature = "http_v2")]
impl<T: Pooled> Drop for Ended<T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A value that is dropped with its pool.
#[repr(C)]
struct InPool<T> {
    of: TypeId,
    value: T,
}

unsafe extern "C" fn drop_kept<T>(kept: *mut c_void) {
    // SAFETY: `keep` has put the value there. This is called once, before the pool's memory is freed
    // (`ngx_destroy_pool`).
    unsafe { kept.cast::<InPool<T>>().drop_in_place() }
}

fn large_bytes(first: Live<'_, ngx_pool_large_t>) -> usize {
    let mut bytes = 0;
    let mut large = Some(first);
    for _ in 0..MAX_LARGE {
        let Some(this) = large else { break };
        bytes += allocator::size_of_large(this);
        large = this.next();
    }
    bytes
}
