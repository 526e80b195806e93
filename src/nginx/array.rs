//! Arrays in a configuration's pool.

use core::marker::PhantomData;
use core::ptr::null_mut;

use nginx_sys::{ngx_array_create, ngx_array_push, ngx_array_t, ngx_conf_t};

/// An array of a configuration, in whose pool it is made when the first element is pushed. Copies are of the same array, but
/// for a copy of one that has no element yet.
pub struct Array<T> {
    array: *mut ngx_array_t,
    of: PhantomData<T>,
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Array<T> {}

impl<T> Array<T> {
    /// Without an element.
    pub const EMPTY: Array<T> = Array { array: null_mut(), of: PhantomData };

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.array.is_null()
    }

    #[inline]
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: null, or made by `push` for elements of this type, all written, in the pool of the configuration that this is
        // part of. Elements are never moved out or changed through the array. Where `push` needs more room, the old
        // elements stay in the pool (`ngx_array_push` frees nothing), so that a slice stays valid.
        unsafe { self.array.as_ref() }.map_or(&[], |array| unsafe { array.as_slice() })
    }

    /// Adds an element. `None` if there is no memory.
    pub fn push(&mut self, cf: &ngx_conf_t, value: T) -> Option<()> {
        // SAFETY: the pool lives as long as the configuration; `ngx_array_push` returns room for one `T`, in a pool that aligns
        // as `NGX_ALIGNMENT` says. Plain copies of elements are made when it grows, which moves them.
        unsafe {
            if self.array.is_null() {
                self.array = ngx_array_create(cf.pool, 4, size_of::<T>());
            }
            let array = self.array.as_mut()?;
            let element = ngx_array_push(array).cast::<T>();
            (!element.is_null()).then(|| element.write(value))
        }
    }
}
