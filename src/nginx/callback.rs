//! Functions of ours that NGINX calls.
//!
//! NGINX gives them pointers to structures that are in use for the time of the call. [`callback`] turns the pointers
//! into typed values once. From there on, the code is safe.

use core::ffi::c_void;

use super::live::Live;

/// An argument of a callback, as a typed value.
pub trait Argument {
    /// The type of the argument in C.
    type C;

    /// # Safety
    /// `c` must be an argument with which NGINX calls a function of this kind. The value must not be used after the
    /// call.
    unsafe fn of(c: Self::C) -> Self;
}

impl<T> Argument for Live<'_, T> {
    type C = *mut T;

    #[inline(always)]
    unsafe fn of(c: *mut T) -> Self {
        // SAFETY: The structure is in use for the time of the call. NGINX does not pass null in this place.
        unsafe { Live::at(c) }
    }
}

/// `None` is null.
impl<T> Argument for Option<Live<'_, T>> {
    type C = *mut T;

    #[inline(always)]
    unsafe fn of(c: *mut T) -> Self {
        // SAFETY: As above, or the pointer is null.
        unsafe { Live::new(c) }
    }
}

/// Implements [`Argument`] for a typed value that stands for a structure. The value is made by `of`.
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

/// The value that was given to NGINX with the callback. It is of type `T`, and changes through cells only.
impl<T> Argument for Option<&T> {
    type C = *mut c_void;

    #[inline(always)]
    unsafe fn of(c: *mut c_void) -> Self {
        // SAFETY: The pointer is null, or leads to a `T` that lives for the time of the call.
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

/// A function for NGINX with typed arguments. Its body is safe code.
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
            // SAFETY: NGINX calls this function. `body` does not know the lifetime of its arguments, so it cannot keep
            // them.
            let ($($argument,)*) = unsafe {
                ($(<$type as $crate::nginx::callback::Argument>::of($argument),)*)
            };
            body$(::<$generic>)?($($argument),*)
        }
    };
}

pub(super) use argument;
pub(crate) use callback;
