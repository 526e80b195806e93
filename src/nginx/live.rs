//! Structures of NGINX that are in use.

use core::marker::PhantomData;
use core::ptr::NonNull;

/// A structure of NGINX that is there for `'a`, and that only the thread of the event loop uses.
///
/// NGINX changes it whenever it is called. So no Rust reference to it is made: members are read and written one by
/// one.
pub struct Live<'a, T> {
    pointer: NonNull<T>,
    of: PhantomData<&'a T>,
}

impl<T> Clone for Live<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Live<'_, T> {}

impl<T> PartialEq for Live<'_, T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.pointer == other.pointer
    }
}

impl<T> Eq for Live<'_, T> {}

impl<'a, T> Live<'a, T> {
    /// `None` for null.
    ///
    /// # Safety
    /// The structure must be there for `'a`, unless the pointer is null. Only the thread of the event loop may use it.
    #[inline]
    pub unsafe fn new(pointer: *mut T) -> Option<Live<'a, T>> {
        Some(Live { pointer: NonNull::new(pointer)?, of: PhantomData })
    }

    /// As [`Live::new`], for a pointer that is never null.
    ///
    /// # Safety
    /// As for [`Live::new`]. The pointer must not be null.
    #[inline]
    pub unsafe fn at(pointer: *mut T) -> Live<'a, T> {
        // SAFETY: as the caller says.
        Live { pointer: unsafe { NonNull::new_unchecked(pointer) }, of: PhantomData }
    }

    /// The pointer, for functions of NGINX.
    #[inline]
    pub fn as_ptr(self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T: Copy> Live<'_, T> {
    /// The value.
    #[inline]
    pub(super) fn read(self) -> T {
        // SAFETY: it is in use, as `Live` says.
        unsafe { self.as_ptr().read() }
    }

    /// Gives it a value.
    #[inline]
    pub(super) fn write(self, value: T) {
        // SAFETY: as in `read`.
        unsafe { self.as_ptr().write(value) };
    }
}

/// A static of NGINX's.
macro_rules! of_static {
    ($name:ident) => {
        // SAFETY: it is there as long as the process. Only the event loop's thread uses those that are named in this
        // folder.
        unsafe { $crate::nginx::live::Live::at(&raw mut nginx_sys::$name) }
    };
}

/// The value of a member. A member of a member can be named, if it is a part of the structure itself.
macro_rules! get {
    ($live:expr, $($member:ident).+) => {{
        let pointer = $crate::nginx::live::Live::as_ptr($live);
        #[allow(unused_unsafe)] // it may be used in an `unsafe` block
        // SAFETY: the structure is in use, as `Live` says. No pointer is followed: `.` does not do that for raw
        // pointers.
        let value = unsafe { (*pointer).$($member).+ };
        value
    }};
}

/// Gives a member a value.
macro_rules! set {
    ($live:expr, $($member:ident).+, $value:expr) => {{
        let pointer = $crate::nginx::live::Live::as_ptr($live);
        let value = $value;
        #[allow(unused_unsafe)]
        // SAFETY: as in `get`.
        unsafe {
            (*pointer).$($member).+ = value;
        }
    }};
}

/// A member that is a part of the structure itself, as a [`Live`] of its own.
macro_rules! member {
    ($live:expr, $($member:ident).+) => {{
        let live = $live;
        #[allow(unused_unsafe)]
        // SAFETY: as in `get`. The member is there as long as the structure.
        let member = unsafe { $crate::nginx::live::Live::within(live, &raw mut (*live.as_ptr()).$($member).+) };
        member
    }};
}

impl<'a, T> Live<'a, T> {
    /// # Safety
    /// `member` must be a part of this structure.
    #[inline]
    pub(super) unsafe fn within<M>(self, member: *mut M) -> Live<'a, M> {
        // SAFETY: as the caller says.
        unsafe { Live::at(member) }
    }
}

pub(super) use {get, member, of_static, set};
