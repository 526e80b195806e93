//! Cutting a worker's CPU time into laps.
//!
//! The clock that tells CPU time is dear: `CLOCK_THREAD_CPUTIME_ID` is a system call. One that tells time as such
//! is cheap, and tells the same as long as the thread is on its processor. So the `hybrid` meter takes a short lap
//! from the cheap clock, unless the thread was switched out in it, and reconciles every other lap against the CPU
//! clock: what that has advanced, less the laps charged since it was last read.
//!
//! An event loop sleeps between its turns, and each sleep switches the thread out. If a reading followed each sleep,
//! most readings would be those. So a wait may stay open: the next lap starts at its end. The next reading tells how
//! much CPU the open waits have used: it is the rest after all short laps.

/// What a meter reads. All times are in nanoseconds, from arbitrary origins.
pub trait Clocks {
    /// CPU time of the calling thread.
    fn cpu_ns(&mut self) -> u64;

    /// Time, at the rate of the CPU clock, whether the thread runs or not.
    fn time_ns(&mut self) -> u64;

    /// Whether the thread was switched out since the last call; where that cannot be seen, `false`.
    fn switched(&mut self) -> bool;

    /// Whether [`Clocks::switched`] sees every switch.
    fn sees_switches(&self) -> bool;
}

/// How laps are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every lap by the CPU clock.
    Thread,
    /// Short laps by the time clock.
    Hybrid {
        /// the largest error of a lap, and what is no short lap any more
        max_error_ns: u64,
    },
}

impl Mode {
    /// The largest error of a lap in nanoseconds that is allowed for if it is not given.
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

/// Reads `TIME` of `max_error=TIME`: a whole number with the unit `us` or `ms`, from `1us` to `10ms`; in nanoseconds.
pub fn parse_max_error(value: &[u8]) -> Option<u64> {
    let (number, unit_ns) = match value {
        [number @ .., b'u', b's'] => (number, 1_000),
        [number @ .., b'm', b's'] => (number, 1_000_000),
        _ => return None,
    };
    // `from_str` would take a sign
    let digits = number.iter().all(u8::is_ascii_digit).then_some(number)?;
    let ns = str::from_utf8(digits).ok()?.parse::<u64>().ok()?.checked_mul(unit_ns)?;
    (1_000..=10_000_000).contains(&ns).then_some(ns)
}

/// For how long short laps go on without a reading of the CPU clock where switches are seen. Then they are exact
/// but for what no clock of ours sees: time that a hypervisor takes away, or that the kernel counts for interrupts.
const TRUST_NS: u64 = 1_000_000;

/// Readings that are no further apart are of the same time: some three times what a reading of the CPU clock takes.
const NEAR_NS: u64 = 2_000;

/// A wait that is longer ends with a reading of the CPU clock: then readings take less than a thousandth of the time.
const SHORT_WAIT_NS: u64 = 1_000_000;

/// At most so many waits are open at the same time.
const MAX_OPEN: u64 = 32;

/// As long as no time was taken away from the processor unseen, a lap may be so many times longer without a reading.
const LONG: u64 = 2;

/// By the CPU clock, laps were shorter by so much than by the time clock if time was taken away from the processor, in
/// nanoseconds. A reading of the CPU clock takes less.
const TAKEN_NS: u64 = 2_000;

/// The first readings tell how much CPU a wait uses. The meter is careful for so many.
const FIRST_READINGS: u32 = 100;

/// The meter is careful for so many readings after a lap that it had to estimate, and after time was taken away from
/// the processor. A turn has two readings then at most, so one turn in a thousand has an estimated lap at most.
const CAREFUL_READINGS: u32 = 2_000;

/// Cuts CPU time into laps: the end of one is the start of the next, so every nanosecond is in exactly one lap.
///
/// In `hybrid` mode a lap's error has a bound: a short lap is wrong by no more than its length, which is less than
/// `max_error_ns`; one that is reconciled by no more than the doubtful laps before it, and these end before they
/// add up to `max_error_ns` where switches are not seen. No lap is negative, and none is longer than the time that
/// passed in it. After each reconciled lap the sum of all laps is what the CPU clock says. The exception is where
/// that would have made the lap negative, or longer than the time that passed: then the difference stays in mind
/// until a lap has room for it.
///
/// Waits are left open only where switches are seen. If the lap that is reconciled has run through, its length is
/// the time that passed in it, and the open waits get the rest. If the thread was switched out in it, the open waits
/// get what so many waits use on average, and the lap gets the rest. It is wrong then by what these waits used more
/// or less than that. Afterwards, no wait is left open for a while.
#[derive(Debug)]
pub struct Meter<C> {
    clocks: C,
    /// laps that are shorter are short; 0 in `thread` mode
    short_ns: u64,
    /// laps that are shorter need no reading now
    limit_ns: u64,
    /// how much doubt there may be before the CPU clock is read
    trust_ns: u64,
    /// by the time clock, the end of the last lap
    last_ns: u64,
    /// by the CPU clock, the end of the last lap if all laps were right
    charged_ns: u64,
    /// how far `charged_ns` may be ahead of the CPU clock
    doubt_ns: u64,
    readings: u64,
    /// waits that are open
    open: u64,
    /// what waits have used that were open, and are not any more
    waits_ns: u64,
    /// what a wait uses, on average over the last ones
    mean_wait_ns: u64,
    /// for so many readings, waits are not left open and long laps are read
    careful: u32,
    /// what makes the time clock the one that all processes share
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
        let careful = FIRST_READINGS;
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
            careful,
            raw_offset_ns: 0,
        }
    }

    /// Ends the running lap and starts the next one; returns its length in nanoseconds.
    #[inline]
    pub fn lap(&mut self) -> u64 {
        if self.short_ns == 0 {
            return self.read_cpu_clock();
        }
        let now_ns = self.clocks.time_ns();
        // a clock that went back makes this a long lap
        let lap_ns = now_ns.wrapping_sub(self.last_ns);
        // a switch between the two calls is seen here, one after them in the next lap
        let switched = self.clocks.switched();
        if !switched && self.is_short(lap_ns) { self.charge(now_ns, lap_ns) } else { self.end_lap(switched) }
    }

    /// As [`Meter::lap`], where the lap is one of waiting for events. If it was a short sleep, it stays open, and
    /// this returns 0: see [`Meter::take_waits`].
    #[inline]
    pub fn wait(&mut self) -> u64 {
        if self.short_ns == 0 {
            return self.read_cpu_clock();
        }
        let now_ns = self.clocks.time_ns();
        let wait_ns = now_ns.wrapping_sub(self.last_ns);
        let switched = self.clocks.switched();
        if !switched && self.is_short(wait_ns) {
            return self.charge(now_ns, wait_ns);
        }
        if self.careful == 0 && self.open < MAX_OPEN && wait_ns < SHORT_WAIT_NS {
            self.open += 1;
            self.last_ns = now_ns;
            return 0;
        }
        self.end_wait()
    }

    /// Whether the time that passed may stand for the CPU of a lap.
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

    /// Ends the running lap by the CPU clock, so that no wait is open any more; returns its length in nanoseconds.
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

    /// Ends a wait by the CPU clock. It has the same owner as those that are open, and gets all that they have used.
    #[cold]
    #[inline(never)]
    fn end_wait(&mut self) -> u64 {
        let waits_ns = self.reconcile(
            |meter, due_ns, passed_ns| {
                if meter.open == 0 { due_ns.min(passed_ns) } else { due_ns }
            },
        );
        let waits = core::mem::take(&mut self.open) + 1;
        self.learn(waits_ns / waits);
        waits_ns
    }

    /// `lap` tells the length of the running lap. It gets the CPU that is not charged yet and the time that has passed
    /// in the lap, in nanoseconds. Switches from here on are the next lap's.
    fn reconcile(&mut self, lap: impl FnOnce(&mut Self, u64, u64) -> u64) -> u64 {
        self.readings += 1;
        let (cpu_ns, now_ns) = self.instant();
        // a clock that went back says nothing about the lap
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

    /// From now on, waits are not left open and long laps are read.
    fn be_careful(&mut self) {
        self.careful = CAREFUL_READINGS;
        self.limit_ns = self.short_ns;
    }

    /// Divides `due_ns` of CPU between the running lap, in which `passed_ns` of time have passed, and the open waits
    /// before it. Returns the lap's part.
    fn close_waits(&mut self, due_ns: u64, passed_ns: u64, switched: bool) -> u64 {
        let waits = core::mem::take(&mut self.open);
        let expected_ns = waits * self.mean_wait_ns;
        // If less than an eighth of the expected CPU is left for the waits, time was taken away from the processor in the
        // lap, which nobody has seen.
        let is_known = !switched && due_ns >= passed_ns.saturating_add(expected_ns / 8);
        let lap_ns = if is_known { passed_ns } else { passed_ns.min(due_ns.saturating_sub(expected_ns)) };
        let waits_ns = due_ns - lap_ns;
        if is_known {
            self.learn(waits_ns / waits.max(1));
        } else {
            self.be_careful();
        }
        self.waits_ns += waits_ns;
        self.charged_ns += waits_ns;
        lap_ns
    }

    /// A wait has used so much.
    fn learn(&mut self, wait_ns: u64) {
        self.mean_wait_ns = (self.mean_wait_ns * 7 + wait_ns) / 8;
    }

    /// What waits have used that were open, and that a reading has closed since the last call, in nanoseconds.
    #[inline]
    pub fn take_waits(&mut self) -> u64 {
        core::mem::take(&mut self.waits_ns)
    }

    /// Both clocks at the same time: what an interrupt takes between the two readings would be missing in the next
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

    /// The time on the clock that all processes share, in nanoseconds: that of the running lap's start, if laps
    /// look at the time at all, or else now.
    #[inline]
    pub fn now_ns(&mut self) -> u64 {
        if self.short_ns == 0 {
            self.last_ns = self.clocks.time_ns();
        }
        self.recent_ns()
    }

    /// The same without a reading: where laps do not look at the time, that of the last call of [`Meter::now_ns`].
    #[inline]
    pub fn recent_ns(&self) -> u64 {
        self.last_ns.wrapping_add(self.raw_offset_ns)
    }

    /// What has to be added to the time clock, wrapping, to get the one that all processes share.
    pub fn set_raw_offset(&mut self, raw_offset_ns: u64) {
        self.raw_offset_ns = raw_offset_ns;
    }

    /// By the CPU clock, where the running lap started, in nanoseconds, but for waits that are open.
    pub fn charged_ns(&self) -> u64 {
        self.charged_ns
    }

    /// How often the CPU clock was read.
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
