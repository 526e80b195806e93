//! A mutex in memory that processes share. If its owner thread has ended, the kernel releases the mutex
//! (`set_robust_list(2)`).
//!
//! The mutex is libc's, because neither the standard library nor `rustix` has a robust one.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use std::time::{Duration, Instant};

/// A place for a mutex.
#[derive(Clone, Copy)]
pub struct Mutex<'a> {
    place: NonNull<libc::pthread_mutex_t>,
    of: PhantomData<&'a ()>,
}

/// The size and the alignment of a place, in bytes.
const PLACE_BYTES: usize = 64;
const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= PLACE_BYTES);
const _: () = assert!(align_of::<libc::pthread_mutex_t>() <= PLACE_BYTES);

impl<'a> Mutex<'a> {
    /// # Safety
    /// `place` must have 64 bytes, be aligned to 64 bytes, live for `'a`, and be used for a mutex only. It must contain
    /// a mutex already, except for a call of [`Mutex::make`].
    pub unsafe fn at(place: NonNull<u8>) -> Mutex<'a> {
        Mutex { place: place.cast(), of: PhantomData }
    }

    /// Makes the mutex.
    ///
    /// # Safety
    /// No other thread or process may know the place yet.
    pub unsafe fn make(self) {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: There is room for a mutex. Attributes are initialised before they are used.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(self.place.as_ptr(), attributes.as_ptr());
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
        }
    }

    /// Returns `None` if another living thread holds the mutex, in this process or in another one. A thread that has
    /// ended may have left the guarded data half changed.
    pub fn try_lock(self) -> Option<Guard<'a>> {
        // SAFETY: `make` has initialised the mutex, maybe in another process. If the mutex's owner has ended, this
        // thread holds the mutex now.
        let error = unsafe {
            match libc::pthread_mutex_trylock(self.place.as_ptr()) {
                libc::EOWNERDEAD => libc::pthread_mutex_consistent(self.place.as_ptr()),
                error => error,
            }
        };
        // This is not `then_some`, because a guard that is dropped unlocks the mutex.
        (error == 0).then(|| Guard { mutex: self, of_thread: PhantomData })
    }

    /// As [`Mutex::try_lock`], but tries again until `patience` has passed.
    pub fn lock_within(self, patience: Duration) -> Option<Guard<'a>> {
        let begin = Instant::now();
        loop {
            let guard = self.try_lock();
            if guard.is_some() || begin.elapsed() > patience {
                return guard;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A locked mutex. Only the thread that has locked it may unlock it, because a robust mutex belongs to its thread.
pub struct Guard<'a> {
    mutex: Mutex<'a>,
    of_thread: PhantomData<*const ()>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: This thread has locked the mutex. A guard cannot be sent to another thread, see below.
        unsafe { libc::pthread_mutex_unlock(self.mutex.place.as_ptr()) };
    }
}

// A guard cannot be sent to another thread. If it could, this would not compile, because two implementations would
// match.
const _: () = {
    trait IsNotSend<A> {
        fn check() {}
    }
    struct OfAny;
    struct OfSend;
    impl<T: ?Sized> IsNotSend<OfAny> for T {}
    impl<T: ?Sized + Send> IsNotSend<OfSend> for T {}
    let _ = <Guard<'static> as IsNotSend<_>>::check;
};
