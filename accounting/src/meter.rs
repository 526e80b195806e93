//! Divides a worker's CPU time into laps.
//!
//! The clock of CPU time is expensive: `CLOCK_THREAD_CPUTIME_ID` is a system call. A clock of elapsed time is cheap,
//! and gives the same lengths as long as the thread stays on its processor. So the `hybrid` meter measures a short
//! lap by the cheap clock, unless the thread was switched out in it. It reconciles every other lap with the CPU
//! clock: the lap is the advance of the CPU clock, less the laps charged since its last reading.
//!
//! An event loop sleeps between its turns, and each sleep switches the thread out. If a reading followed each sleep,
//! most readings would be of this kind. So a wait may stay open: the next lap starts at its end. The next reading
//! closes the open waits: they have used the CPU time that is left after all short laps.

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

/// A longer wait ends with a reading of the CPU clock. After it, caches are cold and a wait uses more CPU.
const SHORT_WAIT_NS: u64 = 250_000;

/// The most waits that are open at the same time.
const MAX_OPEN: u64 = 32;

/// While no time is taken away from the processor unseen, a lap without a reading may be this many times longer.
const LONG: u64 = 2;

/// If the laps are shorter by this much on the CPU clock than on the time clock, time was taken away from the
/// processor, in nanoseconds. A reading of the CPU clock takes less.
const TAKEN_NS: u64 = 2_000;

/// The meter is careful for this many readings at first, to learn how much CPU a wait uses.
const FIRST_READINGS: u32 = 100;

/// The meter is careful for this many readings after it had to estimate a lap, and after time was taken away from the
/// processor. So at most one of this many readings estimates a lap.
const CAREFUL_READINGS: u32 = 2_000;

/// Divides CPU time into laps: the end of one lap is the start of the next, so every nanosecond is in exactly one
/// lap.
///
/// In `hybrid` mode the error of a lap has a bound. A short lap is wrong by at most its length, which is less than
/// `max_error_ns`, or twice as much while no time is taken away from the processor. A reconciled lap is wrong by at
/// most the doubtful laps before it; if switches are not seen, these end before they add up to `max_error_ns`. No lap
/// is negative, and none is longer than the time that passed in it. After each reconciled lap, the sum of all laps is
/// the time of the CPU clock, with one exception: if the lap would have been negative, or longer than the time that
/// passed, the difference is kept until a lap has room for it.
///
/// Waits are left open only if switches are seen. If the thread ran throughout the reconciled lap, the lap is the time
/// that passed in it, and the open waits get the rest. If the thread was switched out in it, each open wait gets the
/// average of a short wait, and the lap gets the rest. The lap is then wrong by the difference between the open waits
/// and their average. So the open waits together are expected to use at most `max_error_ns`. Afterwards the meter is
/// careful: no wait is left open for a while.
#[derive(Debug)]
pub struct Meter<C> {
    clocks: C,
    /// laps below this length are short; 0 in `thread` mode
    short_ns: u64,
    /// laps below this length need no reading now
    limit_ns: u64,
    /// the most doubt before the CPU clock is read
    trust_ns: u64,
    /// the end of the last lap, by the time clock
    last_ns: u64,
    /// the end of the last lap by the CPU clock, if all laps were exact
    charged_ns: u64,
    /// how far `charged_ns` may be ahead of the CPU clock
    doubt_ns: u64,
    readings: u64,
    /// number of open waits
    open: u64,
    /// CPU of waits that were open and are closed, since the last [`Meter::take_waits`]
    waits_ns: u64,
    /// average CPU of the last waits
    mean_wait_ns: u64,
    /// number of readings for which the meter is careful: it leaves no wait open, and reads long laps
    careful: u32,
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
        Self {
            clocks,
            short_ns,
            limit_ns: short_ns,
            trust_ns,
            last_ns,
            charged_ns,
            doubt_ns: 0,
            readings: 1,
            open: 0,
            waits_ns: 0,
            mean_wait_ns: 0,
            careful: FIRST_READINGS,
            raw_offset_ns: 0,
        }
    }

    /// Ends the running lap and starts the next one; returns its length in nanoseconds.
    #[inline]
    pub fn lap(&mut self) -> u64 {
        self.lap_or(|meter, _, _, switched| meter.end_lap(switched))
    }

    /// As [`Meter::lap`], for a lap in which the event loop has waited for events. After a short sleep it stays open,
    /// and this returns 0: see [`Meter::take_waits`].
    #[inline]
    pub fn wait(&mut self) -> u64 {
        self.lap_or(|meter, now_ns, wait_ns, _| {
            if meter.careful != 0 || wait_ns >= SHORT_WAIT_NS || !meter.may_open() {
                return meter.end_wait(wait_ns);
            }
            meter.open += 1;
            meter.last_ns = now_ns;
            0
        })
    }

    /// Ends the running lap. If the time clock does not tell its CPU, `otherwise` ends it. It gets the current time,
    /// the time that passed in the lap, and whether the thread was switched out.
    #[inline]
    fn lap_or(&mut self, otherwise: impl FnOnce(&mut Self, u64, u64, bool) -> u64) -> u64 {
        if self.short_ns == 0 {
            return self.read_cpu_clock();
        }
        let now_ns = self.clocks.time_ns();
        // a clock that went back makes this a long lap
        let lap_ns = now_ns.wrapping_sub(self.last_ns);
        // a switch between the two calls is seen here; a switch after them is seen in the next lap
        let switched = self.clocks.switched();
        if !switched && self.is_short(lap_ns) {
            self.charge(now_ns, lap_ns)
        } else {
            otherwise(self, now_ns, lap_ns, switched)
        }
    }

    /// Whether one more wait may stay open: the open waits are expected to use no more CPU than an error may be.
    #[inline]
    fn may_open(&self) -> bool {
        let open = self.open + 1;
        open <= MAX_OPEN && self.mean_wait_ns != 0 && open * self.mean_wait_ns <= self.short_ns
    }

    /// Whether the time that passed in a lap may count as its CPU.
    #[inline]
    fn is_short(&self, lap_ns: u64) -> bool {
        lap_ns < self.limit_ns && self.doubt_ns + lap_ns < self.trust_ns
    }

    #[inline]
    fn charge(&mut self, now_ns: u64, lap_ns: u64) -> u64 {
        self.last_ns = now_ns;
        self.charged_ns += lap_ns;
        self.doubt_ns += lap_ns;
        lap_ns
    }

    /// Ends the running lap by the CPU clock, which also closes all waits; returns its length in nanoseconds.
    pub fn lap_exactly(&mut self) -> u64 {
        if self.short_ns == 0 {
            return self.read_cpu_clock();
        }
        let switched = self.clocks.switched();
        self.end_lap(switched)
    }

    #[cold]
    #[inline(never)]
    fn read_cpu_clock(&mut self) -> u64 {
        self.readings += 1;
        let lap_ns = self.clocks.cpu_ns().saturating_sub(self.charged_ns);
        self.charged_ns += lap_ns;
        lap_ns
    }

    /// Ends the running lap by the CPU clock. `switched`: the thread was switched out in it.
    #[cold]
    #[inline(never)]
    fn end_lap(&mut self, switched: bool) -> u64 {
        self.reconcile(|meter, due_ns, passed_ns| {
            if meter.open != 0 {
                return meter.close_waits(due_ns, passed_ns, switched);
            }
            if !switched && due_ns.saturating_add(TAKEN_NS) < passed_ns {
                meter.be_careful();
            }
            due_ns.min(passed_ns)
        })
    }

    /// Ends a wait by the CPU clock. The open waits have the same owner, so their CPU is added to this one.
    #[cold]
    #[inline(never)]
    fn end_wait(&mut self, wait_ns: u64) -> u64 {
        let waits_ns = self.reconcile(
            |meter, due_ns, passed_ns| {
                if meter.open == 0 { due_ns.min(passed_ns) } else { due_ns }
            },
        );
        let waits = core::mem::take(&mut self.open) + 1;
        // a long wait tells nothing of short ones: the caches are cold after it
        if wait_ns < SHORT_WAIT_NS {
            self.learn(waits_ns / waits);
        }
        waits_ns
    }

    /// Reads the CPU clock. `lap` computes the length of the running lap from the CPU that is not charged yet and the
    /// time that passed in the lap, in nanoseconds. Later switches belong to the next lap.
    fn reconcile(&mut self, lap: impl FnOnce(&mut Self, u64, u64) -> u64) -> u64 {
        self.readings += 1;
        let (cpu_ns, now_ns) = self.instant();
        // a clock that went back gives no bound for the lap
        let passed_ns = now_ns.checked_sub(self.last_ns).unwrap_or(u64::MAX);
        let due_ns = cpu_ns.saturating_sub(self.charged_ns);
        if self.clocks.sees_switches() {
            self.careful = self.careful.saturating_sub(1);
            self.limit_ns = if self.careful == 0 { self.short_ns * LONG } else { self.short_ns };
        }
        let lap_ns = lap(self, due_ns, passed_ns);
        self.charged_ns += lap_ns;
        self.last_ns = now_ns;
        self.doubt_ns = self.charged_ns.saturating_sub(cpu_ns);
        lap_ns
    }

    /// Leaves no wait open and reads long laps, for a while.
    fn be_careful(&mut self) {
        self.careful = CAREFUL_READINGS;
        self.limit_ns = self.short_ns;
    }

    /// Divides `due_ns` of CPU between the running lap, in which `passed_ns` of time have passed, and the open waits
    /// before it. Returns the lap's part.
    fn close_waits(&mut self, due_ns: u64, passed_ns: u64, switched: bool) -> u64 {
        let waits = core::mem::take(&mut self.open);
        // if the thread ran throughout the lap, the time that passed tells its CPU
        let expected_ns = if switched { waits * self.mean_wait_ns } else { 0 };
        let lap_ns = passed_ns.min(due_ns.saturating_sub(expected_ns));
        let waits_ns = due_ns - lap_ns;
        if !switched {
            self.learn(waits_ns / waits.max(1));
        }
        // waits use some CPU: if none is left for them, time was taken away in the lap
        if switched || waits_ns == 0 {
            self.be_careful();
        }
        self.waits_ns += waits_ns;
        self.charged_ns += waits_ns;
        lap_ns
    }

    /// Adds a wait to the average.
    fn learn(&mut self, wait_ns: u64) {
        self.mean_wait_ns = (self.mean_wait_ns * 7 + wait_ns) / 8;
    }

    /// CPU of the waits that a reading has closed since the last call, in nanoseconds.
    #[inline]
    pub fn take_waits(&mut self) -> u64 {
        core::mem::take(&mut self.waits_ns)
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

    /// By the CPU clock, where the running lap started, in nanoseconds, but for waits that are open.
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
