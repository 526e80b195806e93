//! Functions of NGINX, or of other modules, in whose place we stand.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Addresses of functions, as they were found, each with a number for good. So one of ours, of which there is one for each number,
/// knows what it stands for, whatever becomes of the place.
pub struct Found<const N: usize>([AtomicUsize; N]);

impl<const N: usize> Found<N> {
    pub const fn none() -> Self {
        Found([const { AtomicUsize::new(0) }; N])
    }

    /// The number of a function; none if as many others are known already. Only the thread of the event loop calls it.
    pub fn number_of(&self, address: usize) -> Option<usize> {
        self.0.iter().position(|known| match known.load(Relaxed) {
            0 => {
                known.store(address, Relaxed);
                true
            }
            known => known == address,
        })
    }

    /// The address of the function with this number; 0 if none has it.
    #[inline]
    pub fn get(&self, number: usize) -> usize {
        self.0[number].load(Relaxed)
    }
}
