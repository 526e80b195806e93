//! Divides a worker's CPU time into laps.
//!
//! The clock of CPU time is expensive: `CLOCK_THREAD_CPUTIME_ID` is a system call. A clock of elapsed time is cheap,
//! and gives the same lengths as long as the thread stays on its processor. So the `hybrid` meter measures a short
//! lap by the cheap clock, unless the thread was switched out in it. It reconciles every other lap with the CPU
//! clock: the lap is the advance of the CPU clock, less the laps charged since its last reading.

/// The clocks that a meter reads. All times are in nanoseconds, from arbitrary origins.
pub trait Clocks {
    /// CPU time of the calling thread.
    fn cpu_ns(&mut self) -> u64;

    /// Elapsed time, at the rate of the CPU clock, whether the thread runs or not.
    fn time_ns(&mut self) -> u64;

    /// True if the thread was switched out since the last call; `false` if that cannot be known.
    fn switched(&mut self) -> bool;

    /// True if [`Clocks::switched`] sees every switch.
    fn sees_switches(&self) -> bool;
}

/// How laps are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The CPU clock measures every lap.
    Thread,
    /// The time clock measures short laps.
    Hybrid {
        /// the largest error of a lap; a lap of at least this length is not short
        max_error_ns: u64,
    },
}

impl Mode {
    /// The default of the largest error of a lap, in nanoseconds.
    pub const MAX_ERROR_NS: u64 = 20_000;

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Thread => "thread",
            Mode::Hybrid { .. } => "hybrid",
        }
    }

    /// The largest error of a lap, in nanoseconds.
    pub fn max_error_ns(self) -> u64 {
        match self {
            Mode::Thread => 0,
            Mode::Hybrid { max_error_ns } => max_error_ns,
        }
    }
}

impl Default for Mode {
    fn default() -> Self {
        Mode::Hybrid { max_error_ns: Self::MAX_ERROR_NS }
    }
}

/// Reads `TIME` of `max_error=TIME`: a whole number with the unit `us` or `ms`, from `1us` to `10ms`. Returns
/// nanoseconds.
pub fn parse_max_error(value: &[u8]) -> Option<u64> {
    let (number, unit_ns) = match value {
        [number @ .., b'u', b's'] => (number, 1_000),
        [number @ .., b'm', b's'] => (number, 1_000_000),
        _ => return None,
    };
    // `from_str` would accept a sign
    let digits = number.iter().all(u8::is_ascii_digit).then_some(number)?;
    let ns = str::from_utf8(digits).ok()?.parse::<u64>().ok()?.checked_mul(unit_ns)?;
    (1_000..=10_000_000).contains(&ns).then_some(ns)
}

/// The longest sequence of short laps without a reading of the CPU clock, if switches are seen. Such laps are exact,
/// except for time that none of the clocks sees: time that a hypervisor takes, or that the kernel counts for
/// interrupts.
const TRUST_NS: u64 = 1_000_000;

/// Two readings that are this close count as one instant: some three times the cost of reading the CPU clock.
const NEAR_NS: u64 = 2_000;

/// Divides CPU time into laps: the end of one lap is the start of the next, so every nanosecond is in exactly one
/// lap.
///
/// In `hybrid` mode the error of a lap has a bound. A short lap is wrong by at most its length, which is less than
/// `max_error_ns`. A reconciled lap is wrong by at most the doubtful laps before it; if switches are not seen, these
/// end before they add up to `max_error_ns`. No lap is negative, and none is longer than the time that passed in it.
/// After each reconciled lap, the sum of all laps is the time of the CPU clock, with one exception: if the lap would
/// have been negative, or longer than the time that passed, the difference is kept until a lap has room for it.
#[derive(Debug)]
pub struct Meter<C> {
    clocks: C,
    /// laps below this length are short; 0 in `thread` mode
    short_ns: u64,
    /// the most doubt before the CPU clock is read
    trust_ns: u64,
    /// the end of the last lap, by the time clock
    last_ns: u64,
    /// the end of the last lap by the CPU clock, if all laps were exact
    charged_ns: u64,
    /// how far `charged_ns` may be ahead of the CPU clock
    doubt_ns: u64,
    readings: u64,
    /// offset from the time clock to the raw clock that all processes share
    raw_offset_ns: u64,
}

impl<C: Clocks> Meter<C> {
    /// Reads both clocks; the first lap starts here.
    pub fn start(mut clocks: C, mode: Mode) -> Self {
        let short_ns = mode.max_error_ns();
        let trust_ns = if clocks.sees_switches() { TRUST_NS.max(short_ns) } else { short_ns };
        clocks.switched();
        let charged_ns = clocks.cpu_ns();
        let last_ns = clocks.time_ns();
        Self { clocks, short_ns, trust_ns, last_ns, charged_ns, doubt_ns: 0, readings: 1, raw_offset_ns: 0 }
    }

    /// Ends the running lap and starts the next one; returns its length in nanoseconds.
    #[inline]
    pub fn lap(&mut self) -> u64 {
        if self.short_ns != 0 {
            let now_ns = self.clocks.time_ns();
            // a clock that went back makes this a long lap
            let lap_ns = now_ns.wrapping_sub(self.last_ns);
            // a switch between the two calls is seen here; a switch after them is seen in the next lap
            if lap_ns < self.short_ns && self.doubt_ns + lap_ns < self.trust_ns && !self.clocks.switched() {
                self.last_ns = now_ns;
                self.charged_ns += lap_ns;
                self.doubt_ns += lap_ns;
                return lap_ns;
            }
        }
        self.reconcile()
    }

    /// Ends the running lap by the CPU clock.
    #[cold]
    #[inline(never)]
    pub fn reconcile(&mut self) -> u64 {
        self.readings += 1;
        if self.short_ns == 0 {
            let lap_ns = self.clocks.cpu_ns().saturating_sub(self.charged_ns);
            self.charged_ns += lap_ns;
            return lap_ns;
        }
        // later switches belong to the next lap
        self.clocks.switched();
        let (cpu_ns, now_ns) = self.instant();
        // a clock that went back gives no bound for the lap
        let passed_ns = now_ns.checked_sub(self.last_ns).unwrap_or(u64::MAX);
        let lap_ns = cpu_ns.saturating_sub(self.charged_ns).min(passed_ns);
        self.charged_ns += lap_ns;
        self.last_ns = now_ns;
        self.doubt_ns = self.charged_ns.saturating_sub(cpu_ns);
        lap_ns
    }

    /// Reads both clocks at the same time: CPU of an interrupt between the two readings would be missing in the next
    /// lap.
    fn instant(&mut self) -> (u64, u64) {
        let mut before_ns = self.clocks.time_ns();
        let mut tries = 3;
        loop {
            let cpu_ns = self.clocks.cpu_ns();
            let now_ns = self.clocks.time_ns();
            tries -= 1;
            if tries == 0 || now_ns.saturating_sub(before_ns) < NEAR_NS {
                return (cpu_ns, now_ns);
            }
            self.readings += 1;
            before_ns = now_ns;
        }
    }

    /// The time of the clock that all processes share, in nanoseconds. It is the start of the running lap if laps use
    /// the time clock, and otherwise the current time.
    #[inline]
    pub fn now_ns(&mut self) -> u64 {
        if self.short_ns == 0 {
            self.last_ns = self.clocks.time_ns();
        }
        self.recent_ns()
    }

    /// The same without a reading: if laps do not use the time clock, the time of the last call of [`Meter::now_ns`].
    #[inline]
    pub fn recent_ns(&self) -> u64 {
        self.last_ns.wrapping_add(self.raw_offset_ns)
    }

    /// Sets the offset from the time clock to the clock that all processes share. The addition wraps.
    pub fn set_raw_offset(&mut self, raw_offset_ns: u64) {
        self.raw_offset_ns = raw_offset_ns;
    }

    /// The start of the running lap by the CPU clock, in nanoseconds.
    pub fn charged_ns(&self) -> u64 {
        self.charged_ns
    }

    /// The number of readings of the CPU clock.
    pub fn readings(&self) -> u64 {
        self.readings
    }

    /// The clocks.
    pub fn clocks(&mut self) -> &mut C {
        &mut self.clocks
    }
}

#[cfg(test)]
mod tests;
