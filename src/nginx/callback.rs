//! Functions of ours that NGINX calls.
//!
//! NGINX hands them pointers to structures that are in use as long as the call. [`callback`] makes typed values of them
//! once, and safe code goes on from there.

use core::ffi::c_void;

use super::live::Live;

/// An argument of a callback, as a typed value.
pub trait Argument {
    /// As C has it.
    type C;

    /// # Safety
    /// It must be what NGINX calls a function of this kind with, and the value must not be used after the call.
    unsafe fn of(c: Self::C) -> Self;
}

impl<T> Argument for Live<'_, T> {
    type C = *mut T;

    #[inline(always)]
    unsafe fn of(c: *mut T) -> Self {
        // SAFETY: the structure is in use as long as the call; in this place NGINX has no null.
        unsafe { Live::at(c) }
    }
}

/// `None` is null.
impl<T> Argument for Option<Live<'_, T>> {
    type C = *mut T;

    #[inline(always)]
    unsafe fn of(c: *mut T) -> Self {
        // SAFETY: as above, or null.
        unsafe { Live::new(c) }
    }
}

/// The typed value that stands for a structure: it is made by `of`.
macro_rules! argument {
    ($name:ident: $c:ty) => {
        impl $crate::nginx::callback::Argument for $name<'_> {
            type C = *mut $c;

            #[inline(always)]
            unsafe fn of(c: *mut $c) -> Self {
                // SAFETY: as for `Live`.
                $name::of(unsafe { $crate::nginx::live::Live::at(c) })
            }
        }
    };
}

/// What was said when the callback was given to NGINX: a value of this type, which changes through cells only.
impl<T> Argument for Option<&T> {
    type C = *mut c_void;

    #[inline(always)]
    unsafe fn of(c: *mut c_void) -> Self {
        // SAFETY: null, or such a value, which is there as long as the call.
        unsafe { c.cast::<T>().as_ref() }
    }
}

impl Argument for usize {
    type C = usize;

    #[inline(always)]
    unsafe fn of(c: usize) -> usize {
        c
    }
}

/// A pointer that is only handed on.
impl<T> Argument for *mut T {
    type C = *mut T;

    #[inline(always)]
    unsafe fn of(c: *mut T) -> *mut T {
        c
    }
}

/// A function for NGINX with typed arguments, of which the body is safe code.
macro_rules! callback {
    (
        $(#[$attribute:meta])*
        $visible:vis fn $name:ident$(<$generic:ident: $bound:path>)?($($argument:ident: $type:ty),* $(,)?)
            $(-> $result:ty)? $body:block
    ) => {
        $(#[$attribute])*
        #[doc = ""]
        #[doc = "# Safety"]
        #[doc = "NGINX must call it, with arguments of these types that are in use as long as the call."]
        $visible unsafe extern "C" fn $name$(<$generic: $bound>)?(
            $($argument: <$type as $crate::nginx::callback::Argument>::C),*
        ) $(-> $result)? {
            #[inline(always)]
            fn body$(<$generic: $bound>)?($($argument: $type),*) $(-> $result)? $body
            // SAFETY: NGINX calls it, and `body` does not know for how long its arguments are there.
            let ($($argument,)*) = unsafe {
                ($(<$type as $crate::nginx::callback::Argument>::of($argument),)*)
            };
            body$(::<$generic>)?($($argument),*)
        }
    };
}

pub(super) use argument;
pub(crate) use callback;
