//! Cutting a worker's CPU time into laps.

/// A source of readings of CPU time.
pub trait Clock {
    /// CPU time of the calling thread in nanoseconds, from an arbitrary origin.
    fn cpu_ns(&self) -> u64;
}

/// Cuts CPU time into laps: the end of one is the start of the next, so every nanosecond is in exactly one lap.
#[derive(Debug)]
pub struct Meter<C> {
    clock: C,
    last_ns: u64,
}

impl<C: Clock> Meter<C> {
    /// Reads the clock once; the first lap starts here.
    pub fn start(clock: C) -> Self {
        let last_ns = clock.cpu_ns();
        Self { clock, last_ns }
    }

    /// Ends the running lap and starts the next one; returns its length in nanoseconds.
    ///
    /// A reading below the last one counts as an empty lap, so no lap is negative.
    #[inline]
    pub fn lap(&mut self) -> u64 {
        let now_ns = self.clock.cpu_ns();
        let lap_ns = now_ns.saturating_sub(self.last_ns);
        self.last_ns += lap_ns;
        lap_ns
    }

    /// The last reading in nanoseconds: where the running lap started.
    pub fn last_ns(&self) -> u64 {
        self.last_ns
    }
}
