//! The number of an account's requests in flight, over all workers.

#[cfg(not(test))]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[cfg(test)]
use crate::testing::AtomicU64;

/// `epoch << 32 | requests`, shared by all workers.
#[repr(transparent)]
#[derive(Debug)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn update(&self, epoch: u32, change: impl Fn(u32) -> u32) {
        let mut old = self.0.load(Relaxed);
        loop {
            let tag = (old >> 32) as u32;
            if tag.wrapping_sub(epoch).cast_signed() > 0 {
                // the epoch has changed meanwhile; the caller adds its own requests again when it notices that
                return;
            }
            let count = if tag == epoch { old as u32 } else { 0 };
            let new = u64::from(epoch) << 32 | u64::from(change(count));
            // publishes the active time that the caller has counted before: see `Sums::cover`
            match self.0.compare_exchange_weak(old, new, Release, Relaxed) {
                Ok(_) => return,
                Err(seen) => old = seen,
            }
        }
    }

    /// Requests in flight in this epoch.
    pub fn read(&self, epoch: u32) -> u32 {
        let value = self.0.load(Acquire);
        if (value >> 32) as u32 == epoch { value as u32 } else { 0 }
    }
}
