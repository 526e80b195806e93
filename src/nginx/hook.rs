//! Functions of NGINX or of other modules for which a function of ours stands in.

use core::ffi::{CStr, c_void};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::live::Live;

/// A pointer to a C function.
///
/// # Safety
/// The type must be a function pointer: its size is that of an address, and it is never null.
pub unsafe trait FnPointer: Copy {
    /// The address of the function.
    fn address(self) -> usize;
}

macro_rules! fn_pointers {
    ($(($($argument:ident),*))*) => { $(
        // SAFETY: The type is a function pointer.
        unsafe impl<$($argument,)* R> FnPointer for unsafe extern "C" fn($($argument),*) -> R {
            #[inline]
            fn address(self) -> usize {
                self as usize
            }
        }
    )* };
}

fn_pointers!((A)(A, B)(A, B, C)(A, B, C, D));

/// The function that a pointer led to before ours replaced it. All processes share one such function for each pointer,
/// so the hook is a static.
///
/// Only the thread of the event loop writes the hook. Threads of a pool may read it.
pub struct Hook<F> {
    /// the address; 0 if there is no function yet
    real: AtomicUsize,
    of: PhantomData<F>,
}

impl<F: FnPointer> Hook<F> {
    /// A hook that has replaced nothing yet.
    pub const fn new() -> Hook<F> {
        Hook { real: AtomicUsize::new(0), of: PhantomData }
    }

    /// Replaces the function at `place` with `ours`, if there is a function. NGINX calls `ours` as it would have called
    /// that function.
    pub fn replace(&self, place: Live<'_, Option<F>>, ours: F) {
        if let Some(real) = place.function() {
            self.remember(Some(real));
            place.set_function(Some(ours));
        }
    }

    /// Stores the function that ours stands in for from now on.
    #[inline]
    pub fn remember(&self, real: Option<F>) {
        self.real.store(real.map_or(0, F::address), Relaxed);
    }

    /// The function that ours stands in for.
    #[inline]
    pub fn real(&self) -> Option<F> {
        function(self.real.load(Relaxed))
    }

    /// Whether this is the function that ours stands in for.
    #[inline]
    pub fn is(&self, function: F) -> bool {
        self.real.load(Relaxed) == function.address()
    }

    /// Whether there is a function that ours stands in for.
    #[inline]
    pub fn is_known(&self) -> bool {
        self.real.load(Relaxed) != 0
    }
}

impl<F: FnPointer> Hook<F> {
    #[cfg(ngx_feature = "ssl")]
    /// Looks up a function by its name. Not every NGINX has it.
    ///
    /// # Safety
    /// A function of this name must be of this type.
    pub unsafe fn look_up(&self, name: &CStr) {
        self.real.store(address_of(name).addr(), Relaxed);
    }
}

/// The function at an address that [`Hook`] or [`Hooks`] has stored; `None` for 0.
#[inline]
fn function<F: FnPointer>(address: usize) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<usize>()) }
    // SAFETY: An address that is not 0 is that of a function of this type. `remember` and `number_of` store no other
    // addresses, and the caller of `look_up` guarantees it.
    (address != 0).then(|| unsafe { core::mem::transmute_copy::<usize, F>(&address) })
}

/// Up to `N` functions that the same kind of pointer leads to in different connections. Each function keeps its number
/// for good. There is one function of ours for each number. So ours always knows the function that it stands in for,
/// even if the pointer has changed.
pub struct Hooks<F, const N: usize> {
    real: [AtomicUsize; N],
    of: PhantomData<F>,
}

impl<F: FnPointer, const N: usize> Hooks<F, N> {
    /// No function is known yet.
    pub const fn new() -> Self {
        Hooks { real: [const { AtomicUsize::new(0) }; N], of: PhantomData }
    }

    /// The number of a function. `None` if `N` other functions are known already. Only the thread of the event loop may
    /// call this.
    pub fn number_of(&self, function: F) -> Option<usize> {
        let address = function.address();
        self.real.iter().position(|known| match known.load(Relaxed) {
            0 => {
                known.store(address, Relaxed);
                true
            }
            known => known == address,
        })
    }

    /// Whether a function is known.
    #[inline]
    pub fn has(&self, function: F) -> bool {
        self.real.iter().any(|known| known.load(Relaxed) == function.address())
    }

    /// The function with this number.
    #[inline]
    pub fn real(&self, number: usize) -> Option<F> {
        function(self.real.get(number)?.load(Relaxed))
    }

    /// Replaces the function at `place` with the function of `ours` that has its number, unless one of `ours` is there
    /// already.
    pub fn replace(&self, place: Live<'_, Option<F>>, ours: &[F; N]) {
        let Some(real) = place.function() else { return };
        if position(ours, real).is_none()
            && let Some(ours) = self.number_of(real).and_then(|number| ours.get(number))
        {
            place.set_function(Some(*ours));
        }
    }

    /// If one of `ours` is at `place`, puts the function back that it stands in for. If another module's function is
    /// there by now, it stays.
    pub fn restore(&self, place: Live<'_, Option<F>>, ours: &[F; N]) {
        if let Some(number) = place.function().and_then(|function| position(ours, function)) {
            place.set_function(self.real(number));
        }
    }
}

impl<F: FnPointer> Live<'_, Option<F>> {
    /// The function at this place.
    #[inline]
    pub fn function(self) -> Option<F> {
        self.read()
    }

    /// Puts a function at this place. NGINX calls it as its type says, in the same way as the previous function.
    #[inline]
    pub fn set_function(self, function: Option<F>) {
        self.write(function);
    }
}

/// The number of a function among ours.
pub fn position<F: FnPointer>(ours: &[F], function: F) -> Option<usize> {
    ours.iter().position(|ours| ours.address() == function.address())
}

/// The address of a symbol that not every NGINX has, by its name. Null if it does not exist.
pub(super) fn address_of(name: &CStr) -> *mut c_void {
    // SAFETY: The name ends with a null. The result is an address or null.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}
