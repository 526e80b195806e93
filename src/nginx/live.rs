//! Structures of NGINX that are in use.

use core::marker::PhantomData;
use core::ptr::NonNull;

/// A structure of NGINX that lives for `'a`. Only the thread of the event loop uses it.
///
/// NGINX may change the structure whenever NGINX is called. So no Rust reference to it is made: members are read and
/// written one by one.
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
    /// The structure must live for `'a`, unless the pointer is null. Only the thread of the event loop may use it.
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

    /// A structure of ours. Nothing else uses it for `'a`.
    pub(super) fn ours(structure: &'a mut T) -> Live<'a, T> {
        Live { pointer: NonNull::from(structure), of: PhantomData }
    }

    /// The pointer, for functions of NGINX.
    #[inline]
    pub fn as_ptr(self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Live<'_, T> {
    /// The value.
    #[inline]
    pub(super) fn read(self) -> T
    where
        T: Copy,
    {
        // SAFETY: The structure is in use, as `Live` says.
        unsafe { self.as_ptr().read() }
    }

    /// Writes the value.
    #[inline]
    pub(super) fn write(self, value: T) {
        // SAFETY: as in `read`.
        unsafe { self.as_ptr().write(value) };
    }
}

impl<'a, T, const N: usize> Live<'a, [T; N]> {
    /// An element; `None` if the index is too large.
    pub(super) fn element(self, at: usize) -> Option<Live<'a, T>> {
        // SAFETY: The element is within the array.
        (at < N).then(|| unsafe { self.within(self.as_ptr().cast::<T>().add(at)) })
    }
}

/// A static of NGINX's.
macro_rules! of_static {
    ($name:ident) => {{
        #[allow(unused_unsafe)]
        // SAFETY: It lives as long as the process. Only the event loop's thread uses the statics that are named in this
        // folder.
        let of_static = unsafe { $crate::nginx::live::Live::at(&raw mut nginx_sys::$name) };
        of_static
    }};
}

/// The value of a member. The name may be that of a member of a member, if that is a part of the structure itself.
macro_rules! get {
    ($live:expr, $($member:ident).+) => {{
        let value = $crate::nginx::live::Live::read($crate::nginx::live::member!($live, $($member).+));
        value // now it may become another type
    }};
}

/// Writes the value of a member.
macro_rules! set {
    ($live:expr, $($member:ident).+, $value:expr) => {
        $crate::nginx::live::Live::write($crate::nginx::live::member!($live, $($member).+), $value)
    };
}

/// A member that is a part of the structure itself, as a [`Live`] of its own.
macro_rules! member {
    ($live:expr, $($member:ident).+) => {{
        let live = $live;
        #[allow(unused_unsafe)] // it may be used in an `unsafe` block
        // SAFETY: The structure is in use, as `Live` says, and the member lives as long as the structure. No pointer is
        // followed: `.` does not do that for raw pointers.
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
