//! A mutex in memory that processes share, which the kernel takes from a thread that has ended
//! (`set_robust_list(2)`).
//!
//! libc's: neither the standard library nor `rustix` has a robust one.

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

/// So many bytes a place has, and so it is aligned.
const PLACE_BYTES: usize = 64;
const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= PLACE_BYTES);
const _: () = assert!(align_of::<libc::pthread_mutex_t>() <= PLACE_BYTES);

impl<'a> Mutex<'a> {
    /// # Safety
    /// `place` must have 64 bytes, be aligned to as many, be there for `'a`, and be used for a mutex only. But
    /// for [`Mutex::make`], there must be one.
    pub unsafe fn at(place: NonNull<u8>) -> Mutex<'a> {
        Mutex { place: place.cast(), of: PhantomData }
    }

    /// Makes the mutex.
    ///
    /// # Safety
    /// Nobody else may know the place yet.
    pub unsafe fn make(self) {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: there is room for a mutex; attributes are initialised before they are used.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(self.place.as_ptr(), attributes.as_ptr());
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
        }
    }

    /// None if another thread that lives has it, of this process or of another one. A thread that has ended may
    /// have left what the mutex guards half done.
    pub fn try_lock(self) -> Option<Guard<'a>> {
        // SAFETY: `make` has initialised it, maybe in another process. Where its owner has ended, this thread has it
        // now.
        let error = unsafe {
            match libc::pthread_mutex_trylock(self.place.as_ptr()) {
                libc::EOWNERDEAD => libc::pthread_mutex_consistent(self.place.as_ptr()),
                error => error,
            }
        };
        // not `then_some`: a guard that is dropped unlocks
        (error == 0).then(|| Guard { mutex: self, of_thread: PhantomData })
    }

    /// As [`Mutex::try_lock`], for so long.
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

/// A mutex, held by the thread that has locked it, and by no other: a robust mutex belongs to its thread.
pub struct Guard<'a> {
    mutex: Mutex<'a>,
    of_thread: PhantomData<*const ()>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread has locked it: a guard cannot be sent to another one, see below.
        unsafe { libc::pthread_mutex_unlock(self.mutex.place.as_ptr()) };
    }
}

// A guard cannot be sent to another thread. This does not compile if it can: then there are two implementations
// to choose from.
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
