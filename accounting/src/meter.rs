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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::cases;

    /// A clock that is set by hand.
    struct Simulated<'a>(&'a Cell<u64>);

    impl Clock for Simulated<'_> {
        fn cpu_ns(&self) -> u64 {
            self.0.get()
        }
    }

    #[test]
    fn a_clock_that_steps_back_gives_empty_laps_until_it_has_caught_up() {
        let now_ns = Cell::new(1_000);
        let mut meter = Meter::start(Simulated(&now_ns));
        let mut lap_at = |ns| {
            now_ns.set(ns);
            meter.lap()
        };
        assert_eq!([900, 0, 1_000, 1_001, 1_001, 1_100].map(&mut lap_at), [0, 0, 0, 1, 0, 99]);
    }

    #[test]
    fn time_before_the_start_is_in_no_lap() {
        let now_ns = Cell::new(u64::MAX - 5);
        let mut meter = Meter::start(Simulated(&now_ns));
        now_ns.set(u64::MAX);
        assert_eq!(meter.last_ns(), u64::MAX - 5);
        assert_eq!(meter.lap(), 5);
        assert_eq!(meter.last_ns(), u64::MAX);
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn laps_add_up_to_the_clocks_advance(
            start_ns in 0u64..1 << 60, steps in prop::collection::vec(0u64..1 << 40, 0..100),
        ) {
            let now_ns = Cell::new(start_ns);
            let mut meter = Meter::start(Simulated(&now_ns));
            let mut sum_ns = 0;
            for step_ns in steps {
                now_ns.set(now_ns.get() + step_ns);
                let lap_ns = meter.lap();
                prop_assert_eq!(lap_ns, step_ns);
                sum_ns += lap_ns;
            }
            prop_assert_eq!(sum_ns, now_ns.get() - start_ns);
        }

        #[test]
        fn laps_add_up_to_the_highest_reading_whatever_the_clock_does(start_ns: u64, readings: Vec<u64>) {
            let now_ns = Cell::new(start_ns);
            let mut meter = Meter::start(Simulated(&now_ns));
            let mut sum_ns = 0;
            for &reading in &readings {
                now_ns.set(reading);
                sum_ns += meter.lap();
            }
            let highest = readings.iter().copied().fold(start_ns, u64::max);
            prop_assert_eq!(sum_ns, highest - start_ns);
        }
    }
}
