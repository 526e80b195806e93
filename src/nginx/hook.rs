//! Functions of NGINX, or of other modules, that one of ours stands in for.

use core::ffi::{CStr, c_void};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::live::Live;

/// A pointer to a C function.
///
/// # Safety
/// The type must be a function pointer: as large as an address, and never null.
pub unsafe trait FnPointer: Copy {
    /// The address of the function.
    fn address(self) -> usize;
}

macro_rules! fn_pointers {
    ($(($($argument:ident),*))*) => { $(
        // SAFETY: a function pointer.
        unsafe impl<$($argument,)* R> FnPointer for unsafe extern "C" fn($($argument),*) -> R {
            #[inline]
            fn address(self) -> usize {
                self as usize
            }
        }
    )* };
}

fn_pointers!((A)(A, B)(A, B, C)(A, B, C, D));

/// The function that stood at a place before ours. All processes have one for each place, so it is a static.
///
/// Only the thread of the event loop writes it; threads of a pool may read it.
pub struct Hook<F> {
    /// 0 as long as there is none
    real: AtomicUsize,
    of: PhantomData<F>,
}

impl<F: FnPointer> Hook<F> {
    /// Nothing is replaced yet.
    pub const fn new() -> Hook<F> {
        Hook { real: AtomicUsize::new(0), of: PhantomData }
    }

    /// Puts `ours` in the place of the function at `place`, if there is one. NGINX calls `ours` as it would have
    /// called that one.
    pub fn replace(&self, place: Live<'_, Option<F>>, ours: F) {
        if let Some(real) = place.function() {
            self.remember(Some(real));
            place.set_function(Some(ours));
        }
    }

    /// The function that ours stands in for from now on.
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
    /// Looks up a function that not every NGINX has, by its name.
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
    // SAFETY: not 0, and so the address of a function of this type: `remember` and `number_of` store no other, and
    // `look_up`'s caller has seen to it.
    (address != 0).then(|| unsafe { core::mem::transmute_copy::<usize, F>(&address) })
}

/// Up to `N` functions that stand at the same kind of place in different connections. Each keeps its number for good:
/// so one of ours, of which there is one for each number, knows the function that it stands in for, whatever becomes
/// of the place.
pub struct Hooks<F, const N: usize> {
    real: [AtomicUsize; N],
    of: PhantomData<F>,
}

impl<F: FnPointer, const N: usize> Hooks<F, N> {
    /// No function is known yet.
    pub const fn new() -> Self {
        Hooks { real: [const { AtomicUsize::new(0) }; N], of: PhantomData }
    }

    /// The number of a function; `None` if as many others are known already. Only the thread of the event loop calls
    /// it.
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

    /// Puts the one of `ours` that belongs to the function at `place` there, unless one of them is there already.
    pub fn replace(&self, place: Live<'_, Option<F>>, ours: &[F; N]) {
        let Some(real) = place.function() else { return };
        if position(ours, real).is_none()
            && let Some(ours) = self.number_of(real).and_then(|number| ours.get(number))
        {
            place.set_function(Some(*ours));
        }
    }

    /// Puts the function back that the one of `ours` at `place` stands in for. If another module's function is there
    /// by now, it stays.
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

    /// Puts a function at this place. NGINX calls it as its type says, and as it would have called the one before.
    #[inline]
    pub fn set_function(self, function: Option<F>) {
        self.write(function);
    }
}

/// The number of a function among ours.
pub fn position<F: FnPointer>(ours: &[F], function: F) -> Option<usize> {
    ours.iter().position(|ours| ours.address() == function.address())
}

/// The address of something that not every NGINX has, by its name; null if it is not there.
pub(super) fn address_of(name: &CStr) -> *mut c_void {
    // SAFETY: a name that ends with a null; the result is an address or null.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}
