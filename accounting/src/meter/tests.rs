use proptest::prelude::*;

use super::*;
use crate::testing::cases;

/// A simulated thread on a simulated processor. It can be switched out at any time, and right before any reading.
#[derive(Debug, Clone, Default)]
struct Machine {
    cpu_ns: u64,
    time_ns: u64,
    switched: bool,
    sees_switches: bool,
    /// readings are multiples of this
    cpu_grain_ns: u64,
    time_grain_ns: u64,
    /// the times for which the thread is switched out before the next readings
    pauses_ns: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// the thread runs
    Run(u64),
    /// it is preempted, or waits
    Away(u64),
    /// the thread is preempted, or waits
    Stolen(u64),
    /// its processor is taken away, and no clock sees it
    Lap,
}

impl Machine {
    fn exact(sees_switches: bool) -> Self {
        Machine { sees_switches, cpu_grain_ns: 1, time_grain_ns: 1, ..Machine::default() }
    }

    fn away(&mut self, ns: u64) {
        self.time_ns += ns;
        self.switched |= ns > 0;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Run(ns) => {
                self.cpu_ns += ns;
                self.time_ns += ns;
            }
            Step::Away(ns) => self.away(ns),
            Step::Stolen(ns) => self.time_ns += ns,
            Step::Lap => {}
        }
    }

    fn pause(&mut self) {
        if let Some(ns) = self.pauses_ns.pop() {
            self.away(ns);
        }
    }
}

impl Clocks for Machine {
    fn cpu_ns(&mut self) -> u64 {
        self.pause();
        self.cpu_ns - self.cpu_ns % self.cpu_grain_ns
    }

    fn time_ns(&mut self) -> u64 {
        self.pause();
        self.time_ns - self.time_ns % self.time_grain_ns
    }

    fn switched(&mut self) -> bool {
        std::mem::take(&mut self.switched) && self.sees_switches
    }

    fn sees_switches(&self) -> bool {
        self.sees_switches
    }
}

const MAX_ERROR_NS: u64 = 20_000;
const HYBRID: Mode = Mode::Hybrid { max_error_ns: MAX_ERROR_NS };

/// The values of a lap.
#[derive(Debug, Clone, Copy)]
struct Lap {
    measured_ns: u64,
    cpu_ns: u64,
    time_ns: u64,
    /// of all laps so far: measured, and by the CPU clock
    sum_ns: u64,
    sum_cpu_ns: u64,
    /// the CPU clock was read at its end
    reconciled: bool,
}

impl Lap {
    fn error_ns(&self) -> u64 {
        self.measured_ns.abs_diff(self.cpu_ns)
    }
}

/// Runs the steps, and a last lap.
fn laps(machine: Machine, mode: Mode, steps: &[Step]) -> Vec<Lap> {
    let mut meter = Meter::start(machine, mode);
    let (start_cpu_ns, mut cpu_ns, mut time_ns) =
        (meter.clocks.cpu_ns, meter.clocks.cpu_ns, meter.clocks.time_ns);
    let (mut sum_ns, mut readings) = (0, meter.readings());
    let mut laps = Vec::new();
    for &step in steps.iter().chain([&Step::Lap]) {
        meter.clocks().step(step);
        if let Step::Lap = step {
            let measured_ns = meter.lap();
            sum_ns += measured_ns;
            laps.push(Lap {
                measured_ns,
                cpu_ns: meter.clocks.cpu_ns - cpu_ns,
                time_ns: meter.clocks.time_ns - time_ns,
                sum_ns,
                sum_cpu_ns: meter.clocks.cpu_ns - start_cpu_ns,
                reconciled: meter.readings() != readings,
            });
            (cpu_ns, time_ns) = (meter.clocks.cpu_ns, meter.clocks.time_ns);
            readings = meter.readings();
        }
    }
    laps
}

/// Lengths around those where the meter changes its method, and far from them.
fn length() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..50, 0..MAX_ERROR_NS, MAX_ERROR_NS - 2..MAX_ERROR_NS + 2, 0..10_000_000u64]
}

fn steps(stolen: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => length().prop_map(Step::Run),
        2 => length().prop_map(Step::Away),
        if stolen { 1 } else { 0 } => length().prop_map(Step::Stolen),
        6 => Just(Step::Lap),
    ];
    prop::collection::vec(step, 0..200)
}

fn pauses() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![8 => Just(0), 1 => length()], 0..400)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn where_switches_are_seen_every_lap_is_exact_and_the_sums_agree(
        steps in steps(false), pauses_ns in pauses(), thread: bool,
    ) {
        let mode = if thread { Mode::Thread } else { HYBRID };
        for lap in laps(Machine { pauses_ns, ..Machine::exact(true) }, mode, &steps) {
            prop_assert_eq!(lap.measured_ns, lap.cpu_ns);
            prop_assert_eq!(lap.sum_ns, lap.sum_cpu_ns);
        }
    }

    #[test]
    fn where_they_are_not_seen_the_error_of_a_lap_is_bounded(
        steps in steps(true), pauses_ns in pauses(),
    ) {
        for lap in laps(Machine { pauses_ns, ..Machine::exact(false) }, HYBRID, &steps) {
            prop_assert!(lap.error_ns() <= MAX_ERROR_NS, "{:?}", lap);
            prop_assert!(lap.measured_ns <= lap.time_ns, "{:?}", lap);
            // a difference stays only if the lap had too little room, and it is never more than a lap's error
            if lap.reconciled && lap.measured_ns > 0 {
                prop_assert_eq!(lap.sum_ns, lap.sum_cpu_ns);
            }
            prop_assert!((lap.sum_cpu_ns..=lap.sum_cpu_ns + MAX_ERROR_NS).contains(&lap.sum_ns), "{:?}", lap);
        }
    }

    /// A short lap is wrong by the stolen time in it. The next reconciled lap is wrong by the stolen time since the
    /// reconciled lap before.
    #[test]
    fn stolen_time_stays_within_the_laps_between_two_readings(steps in steps(true), pauses_ns in pauses()) {
        let (mut open_ns, mut last) = (0, 0);
        for lap in laps(Machine { pauses_ns, ..Machine::exact(true) }, HYBRID, &steps) {
            prop_assert!(lap.measured_ns <= lap.time_ns);
            if lap.reconciled {
                prop_assert!(lap.error_ns() <= open_ns);
                if lap.measured_ns > 0 {
                    prop_assert_eq!(lap.sum_ns, lap.sum_cpu_ns);
                }
                open_ns = lap.sum_ns - lap.sum_cpu_ns;
            } else {
                prop_assert!(lap.error_ns() < MAX_ERROR_NS);
                open_ns += lap.error_ns();
            }
            prop_assert!(open_ns <= TRUST_NS);
            prop_assert!(lap.sum_ns >= last);
            last = lap.sum_ns;
        }
    }

    /// Each reading may be late by almost a grain. So a lap is wrong by at most two grains of each clock, besides its
    /// bound. The same is true for the sum of any number of laps.
    #[test]
    fn coarse_clocks_make_no_error_that_grows(
        steps in steps(false), pauses_ns in pauses(), sees_switches: bool,
        cpu_grain_ns in 1u64..100_000, time_grain_ns in 1u64..100_000,
    ) {
        let grains_ns = 2 * (cpu_grain_ns + time_grain_ns);
        let machine = Machine { pauses_ns, cpu_grain_ns, time_grain_ns, ..Machine::exact(sees_switches) };
        for lap in laps(machine, HYBRID, &steps) {
            prop_assert!(lap.error_ns() <= MAX_ERROR_NS + grains_ns, "{:?}", lap);
            prop_assert!(lap.measured_ns <= lap.time_ns + time_grain_ns, "{:?}", lap);
            prop_assert!(lap.sum_ns.abs_diff(lap.sum_cpu_ns) <= MAX_ERROR_NS + grains_ns, "{:?}", lap);
        }
    }

    #[test]
    fn clocks_that_jump_make_no_negative_lap(mode in prop_oneof![Just(Mode::Thread), Just(HYBRID)],
        readings: Vec<[u64; 2]>) {
        let mut meter = Meter::start(Machine::exact(true), mode);
        let mut before_ns = meter.charged_ns();
        for [cpu_ns, time_ns] in readings {
            (meter.clocks().cpu_ns, meter.clocks().time_ns) = (cpu_ns, time_ns);
            let lap_ns = meter.lap();
            prop_assert_eq!(before_ns.checked_add(lap_ns), Some(meter.charged_ns()));
            before_ns = meter.charged_ns();
        }
    }

    #[test]
    fn a_max_error_is_read_or_refused(value: Vec<u8>) {
        if let Some(ns) = parse_max_error(&value) {
            prop_assert!((1_000..=10_000_000).contains(&ns));
        }
    }

    #[test]
    fn a_max_error_is_read_as_written(us in 1u64..=10_000) {
        prop_assert_eq!(parse_max_error(format!("{us}us").as_bytes()), Some(us * 1_000));
        if us <= 10 {
            prop_assert_eq!(parse_max_error(format!("{us}ms").as_bytes()), Some(us * 1_000_000));
        }
    }
}

#[test]
fn a_max_error_has_a_unit_and_bounds() {
    for wrong in [
        "", "us", "ms", "20", "20s", "20ns", "0us", "10001us", "11ms", "+1us", "-1us", "1.5ms", " 1us",
        "1us ",
    ] {
        assert_eq!(parse_max_error(wrong.as_bytes()), None, "{wrong:?}");
    }
    assert_eq!(parse_max_error(b"99999999999999999999us"), None);
    assert_eq!(parse_max_error(b"18446744073709551615ms"), None);
}

/// The CPU clock is expensive: it is read only when it must be.
#[test]
fn short_laps_read_the_cpu_clock_only_after_a_switch_or_a_long_time() {
    let readings = |sees_switches, steps: &[Step]| {
        laps(Machine::exact(sees_switches), HYBRID, steps).iter().filter(|lap| lap.reconciled).count()
    };
    let short = [Step::Run(MAX_ERROR_NS / 5 - 1), Step::Lap];
    assert_eq!(readings(true, &short.repeat(100)), 0);
    assert_eq!(readings(true, &short.repeat(1000)), 3, "each millisecond");
    assert_eq!(readings(false, &short.repeat(100)), 16, "each sixth lap");
    assert_eq!(readings(true, &[short, [Step::Away(1), Step::Lap], short].concat()), 1);
    assert_eq!(readings(true, &[Step::Run(MAX_ERROR_NS), Step::Lap]), 1);
}

/// An interrupt takes CPU time between the readings of the two clocks.
#[test]
fn an_interrupt_between_two_readings_is_in_the_lap_that_it_came_in() {
    struct Interrupted(Machine, u64);
    impl Clocks for Interrupted {
        fn cpu_ns(&mut self) -> u64 {
            let now_ns = self.0.cpu_ns;
            self.0.step(Step::Run(std::mem::take(&mut self.1)));
            now_ns
        }
        fn time_ns(&mut self) -> u64 {
            self.0.time_ns
        }
        fn switched(&mut self) -> bool {
            false
        }
        fn sees_switches(&self) -> bool {
            true
        }
    }
    let mut meter = Meter::start(Interrupted(Machine::exact(true), 0), HYBRID);
    meter.clocks().0.step(Step::Run(MAX_ERROR_NS));
    meter.clocks().1 = 50_000;
    assert_eq!((meter.lap(), meter.readings()), (MAX_ERROR_NS + 50_000, 3));
    meter.clocks().0.step(Step::Run(100));
    assert_eq!((meter.lap(), meter.readings()), (100, 3));
}

/// The counter is found to be unusable, and another time clock replaces it.
#[test]
fn a_clock_of_time_that_goes_back_costs_a_reading_and_nothing_else() {
    let mut machine = Machine::exact(true);
    machine.time_ns = 1 << 40;
    let mut meter = Meter::start(machine, HYBRID);
    meter.clocks().step(Step::Run(100));
    meter.clocks().time_ns = 5;
    assert_eq!((meter.lap(), meter.readings()), (100, 2));
    meter.clocks().step(Step::Run(200));
    assert_eq!((meter.lap(), meter.readings()), (200, 2));
    meter.clocks().step(Step::Run(MAX_ERROR_NS));
    assert_eq!((meter.lap(), meter.readings()), (MAX_ERROR_NS, 3));
}

#[test]
fn time_before_the_start_is_in_no_lap() {
    for mode in [Mode::Thread, HYBRID] {
        let mut meter = Meter::start(Machine { cpu_ns: u64::MAX - 5, ..Machine::exact(true) }, mode);
        assert_eq!(meter.charged_ns(), u64::MAX - 5);
        meter.clocks().step(Step::Run(5));
        assert_eq!(meter.lap(), 5);
        assert_eq!(meter.charged_ns(), u64::MAX);
    }
}
