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
    /// the thread is preempted, or waits
    Away(u64),
    /// its processor is taken away, and no clock sees it
    Stolen(u64),
    /// the end of a lap
    Lap,
    /// the end of a wait for events
    Wait,
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
            Step::Lap | Step::Wait => {}
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
    /// it is a wait
    is_wait: bool,
    /// of the waits that were open before it: CPU, and what the meter expected
    open_ns: u64,
    expected_ns: u64,
}

impl Lap {
    fn error_ns(&self) -> u64 {
        self.measured_ns.abs_diff(self.cpu_ns)
    }
}

/// Runs the steps, and a last lap.
fn laps(machine: Machine, mode: Mode, steps: &[Step]) -> Vec<Lap> {
    laps_with_care(machine, mode, steps, u32::MAX)
}

/// As [`laps`]. The meter leaves waits open after `careful` waits at most.
fn laps_with_care(machine: Machine, mode: Mode, steps: &[Step], careful: u32) -> Vec<Lap> {
    let mut meter = Meter::start(machine, mode);
    let (start_cpu_ns, mut cpu_ns, mut time_ns) =
        (meter.clocks.cpu_ns, meter.clocks.cpu_ns, meter.clocks.time_ns);
    let (mut sum_ns, mut readings, mut open_ns) = (0, meter.readings(), 0);
    if careful != u32::MAX {
        // it has learned how much CPU a wait uses
        meter.mean_wait_ns = 2_000;
    }
    let mut laps = Vec::new();
    for &step in steps.iter().chain([&Step::Lap]) {
        meter.clocks().step(step);
        meter.careful = meter.careful.min(careful);
        let expected_ns = meter.open * meter.mean_wait_ns;
        let measured_ns = match step {
            Step::Lap => meter.lap(),
            Step::Wait => meter.wait(),
            _ => continue,
        };
        sum_ns += measured_ns + meter.take_waits();
        let lap = Lap {
            measured_ns,
            cpu_ns: meter.clocks.cpu_ns - cpu_ns,
            time_ns: meter.clocks.time_ns - time_ns,
            sum_ns,
            sum_cpu_ns: meter.clocks.cpu_ns - start_cpu_ns,
            reconciled: meter.readings() != readings,
            is_wait: matches!(step, Step::Wait),
            open_ns,
            expected_ns,
        };
        open_ns = match meter.open {
            0 => 0,
            // only waits stay open
            _ if lap.is_wait && measured_ns == 0 && !lap.reconciled => open_ns + lap.cpu_ns,
            _ => open_ns,
        };
        laps.push(lap);
        (cpu_ns, time_ns) = (meter.clocks.cpu_ns, meter.clocks.time_ns);
        readings = meter.readings();
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

/// Turns of an event loop: a wait, and some laps.
fn turns(stolen: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => length().prop_map(Step::Run),
        3 => length().prop_map(Step::Away),
        if stolen { 1 } else { 0 } => length().prop_map(Step::Stolen),
        6 => Just(Step::Lap),
        6 => Just(Step::Wait),
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

    /// Whoever gets the CPU, a lap or a wait: after each reading nothing is missing.
    #[test]
    fn after_a_reading_laps_and_waits_are_what_the_cpu_clock_says(
        steps in turns(false), pauses_ns in pauses(), careful in 0u32..3,
    ) {
        for lap in laps_with_care(Machine { pauses_ns, ..Machine::exact(true) }, HYBRID, &steps, careful) {
            prop_assert!(lap.sum_ns <= lap.sum_cpu_ns);
            if lap.reconciled {
                prop_assert_eq!(lap.sum_ns, lap.sum_cpu_ns, "{:?}", lap);
            }
        }
    }

    /// A lap is wrong by no more than the waits have used that were open, or should have.
    #[test]
    fn open_waits_bound_the_error_of_a_lap(
        steps in turns(false), pauses_ns in pauses(), careful in 0u32..3,
    ) {
        for lap in laps_with_care(Machine { pauses_ns, ..Machine::exact(true) }, HYBRID, &steps, careful) {
            prop_assert!(lap.is_wait || lap.measured_ns <= lap.time_ns, "{:?}", lap);
            if lap.is_wait {
                prop_assert!(lap.measured_ns <= lap.cpu_ns + lap.open_ns, "{:?}", lap);
            } else if !lap.reconciled {
                prop_assert_eq!(lap.measured_ns, lap.cpu_ns);
            } else {
                prop_assert!(lap.error_ns() <= lap.open_ns.max(lap.expected_ns), "{:?}", lap);
            }
        }
    }

    /// The same where a hypervisor takes time away: its bound is added.
    #[test]
    fn stolen_time_and_open_waits_bound_the_error_of_a_lap(
        steps in turns(true), pauses_ns in pauses(), careful in 0u32..3,
    ) {
        let mut ahead_ns = 0;
        for lap in laps_with_care(Machine { pauses_ns, ..Machine::exact(true) }, HYBRID, &steps, careful) {
            if !lap.is_wait {
                let waits_ns = lap.open_ns.max(lap.expected_ns);
                let most_ns = if lap.reconciled { waits_ns + ahead_ns } else { LONG * MAX_ERROR_NS };
                prop_assert!(lap.error_ns() <= most_ns, "{:?}", lap);
            }
            // by how much the short laps since the last reading were too long
            ahead_ns = match lap.reconciled {
                true => lap.sum_ns.saturating_sub(lap.sum_cpu_ns),
                false if lap.is_wait && lap.measured_ns == 0 => ahead_ns,
                false => ahead_ns + lap.error_ns(),
            };
            prop_assert!(ahead_ns <= TRUST_NS);
        }
    }

    /// Two requests take turns. Their waits differ by a third, and one lap in twenty is switched out.
    #[test]
    fn two_owners_get_their_own_cpu(
        calls in prop::collection::vec((2_000u64..60_000, 2_000u64..4_000, 0u32..20), 8_000),
    ) {
        let mut meter = Meter::start(Machine::exact(true), HYBRID);
        let (mut exact_ns, mut measured_ns, mut loop_ns, mut wrong) = ([0; 2], [0; 2], [0; 2], 0);
        for (n, &(run_ns, wait_ns, switch)) in calls.iter().enumerate() {
            for step in [Step::Run(wait_ns / 2), Step::Away(100_000), Step::Run(wait_ns / 2)] {
                meter.clocks().step(step);
            }
            loop_ns[0] += wait_ns / 2 * 2;
            loop_ns[1] += meter.wait() + meter.take_waits();
            let away_ns = if switch == 0 { 50_000 } else { 0 };
            for step in [Step::Run(run_ns / 2), Step::Away(away_ns), Step::Run(run_ns / 2)] {
                meter.clocks().step(step);
            }
            let lap_ns = meter.lap();
            loop_ns[1] += meter.take_waits();
            exact_ns[n % 2] += run_ns / 2 * 2;
            measured_ns[n % 2] += lap_ns;
            wrong += u32::from(lap_ns != run_ns / 2 * 2);
        }
        loop_ns[1] += meter.lap_exactly() + meter.take_waits();
        prop_assert_eq!(exact_ns[0] + exact_ns[1] + loop_ns[0], measured_ns[0] + measured_ns[1] + loop_ns[1]);
        for owner in 0..2 {
            let off_ns = exact_ns[owner].abs_diff(measured_ns[owner]);
            prop_assert!(off_ns * 1_000 <= exact_ns[owner], "{off_ns} of {}", exact_ns[owner]);
        }
        prop_assert!(wrong <= calls.len() as u32 / 1_000 + 1, "{wrong}");
    }

    /// Each reading may be late by almost a grain: so a lap is wrong by two grains of each clock at most, beside
    /// its bound, and the sum, however many laps there were, as well.
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

    /// The same with waits.
    #[test]
    fn coarse_clocks_and_open_waits_make_no_error_that_grows(
        steps in turns(false), pauses_ns in pauses(), careful in 0u32..3,
        cpu_grain_ns in 1u64..100_000, time_grain_ns in 1u64..100_000,
    ) {
        let grains_ns = 2 * (cpu_grain_ns + time_grain_ns);
        let machine = Machine { pauses_ns, cpu_grain_ns, time_grain_ns, ..Machine::exact(true) };
        for lap in laps_with_care(machine, HYBRID, &steps, careful) {
            if !lap.is_wait {
                let most_ns = MAX_ERROR_NS + grains_ns + lap.open_ns.max(lap.expected_ns);
                prop_assert!(lap.error_ns() <= most_ns, "{:?}", lap);
            }
            if lap.reconciled {
                prop_assert!(lap.sum_ns.abs_diff(lap.sum_cpu_ns) <= MAX_ERROR_NS + grains_ns, "{:?}", lap);
            }
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

#[test]
fn long_laps_read_the_cpu_clock_after_time_was_taken_away() {
    let long = [Step::Run(MAX_ERROR_NS / 2 * 3), Step::Lap];
    let readings = |steps: &[Step]| {
        let laps = laps(Machine::exact(true), HYBRID, steps);
        laps.iter().filter(|lap| lap.reconciled).count()
    };
    let (first, careful) = (FIRST_READINGS as usize, CAREFUL_READINGS as usize);
    assert_eq!(readings(&long.repeat(first)), first);
    // 33 of these laps are less than a millisecond
    assert_eq!(readings(&long.repeat(first + 33)), first);
    assert_eq!(readings(&long.repeat(first + 340)), first + 10);
    let taken =
        [long.repeat(first + 33), vec![Step::Stolen(2 * TAKEN_NS), Step::Lap], long.repeat(careful)].concat();
    assert_eq!(readings(&taken), first + careful);
}

/// A turn of an event loop that sleeps for 100 µs: 3 µs of CPU to wait, 10 µs to work.
const TURN: [Step; 5] =
    [Step::Run(1_500), Step::Away(100_000), Step::Run(1_500), Step::Wait, Step::Run(10_000)];

#[test]
fn short_waits_read_the_cpu_clock_only_when_several_are_open() {
    let turns = |count, step: &[Step]| [[&TURN[..], step].concat(), vec![Step::Lap]].concat().repeat(count);
    let readings = |steps: &[Step]| {
        let laps = laps_with_care(Machine::exact(true), HYBRID, steps, u32::MAX);
        laps.iter().filter(|lap| lap.reconciled).count()
    };
    let (learning, careful) = (FIRST_READINGS as usize, CAREFUL_READINGS as usize);
    assert_eq!(readings(&turns(learning, &[])), learning, "each one");
    // six waits use less than an error may be
    assert_eq!(readings(&turns(learning + 6, &[])), learning);
    assert_eq!(readings(&turns(learning + 7, &[])), learning + 1);
    assert_eq!(readings(&turns(learning + 70, &[])), learning + 10);
    // a handler call that is switched out makes the meter careful again
    let switched = [turns(learning + 2, &[]), turns(1, &[Step::Away(1)]), turns(careful + 6, &[])].concat();
    assert_eq!(readings(&switched), learning + 1 + careful);
}

#[test]
fn long_waits_and_waits_whose_switches_are_not_seen_read_the_cpu_clock() {
    let long = [Step::Away(SHORT_WAIT_NS), Step::Wait, Step::Run(1), Step::Lap];
    let seen = laps_with_care(Machine::exact(true), HYBRID, &long.repeat(10), 0);
    assert_eq!(seen.iter().filter(|lap| lap.reconciled).count(), 10);
    let short = [Step::Away(MAX_ERROR_NS), Step::Wait, Step::Run(1), Step::Lap];
    let unseen = laps(Machine::exact(false), HYBRID, &short.repeat(200));
    assert_eq!(unseen.iter().filter(|lap| lap.reconciled).count(), 200);
}

/// Runs the steps on a meter. Returns the length of the last lap.
fn last_lap(meter: &mut Meter<Machine>, steps: &[Step]) -> u64 {
    let mut last_ns = 0;
    for &step in steps {
        meter.clocks().step(step);
        match step {
            Step::Lap => last_ns = meter.lap(),
            Step::Wait => _ = meter.wait(),
            _ => {}
        }
    }
    last_ns
}

/// In an idle server, caches are cold and a wait uses much CPU. In a burst after that, a wait uses little.
#[test]
fn cheap_waits_after_expensive_ones_take_nothing_from_a_lap_that_ran_through() {
    let idle =
        [Step::Run(15_000), Step::Away(5_000_000), Step::Wait, Step::Run(30_000), Step::Lap].repeat(120);
    let burst = [Step::Run(1_500), Step::Away(50_000), Step::Wait, Step::Run(10_000), Step::Lap].repeat(500);
    for long_ns in [41_000, 100_000, 300_000, 2_000_000] {
        for turns in 1..40 {
            let mut meter = Meter::start(Machine::exact(true), HYBRID);
            last_lap(&mut meter, &idle);
            last_lap(&mut meter, &burst[..turns * 5]);
            let end = [Step::Run(1_500), Step::Away(50_000), Step::Wait, Step::Run(long_ns), Step::Lap];
            assert_eq!(last_lap(&mut meter, &end), long_ns, "{turns}");
        }
    }
}

/// Waits that use up to twice the average: an estimated lap is wrong by `max_error_ns` at most.
#[test]
fn an_estimated_lap_is_wrong_by_no_more_than_the_open_waits_are_off() {
    let mut meter = Meter::start(Machine::exact(true), HYBRID);
    last_lap(
        &mut meter,
        &[Step::Run(3_000), Step::Away(50_000), Step::Wait, Step::Run(10_000), Step::Lap].repeat(150),
    );
    last_lap(
        &mut meter,
        &[Step::Run(6_000), Step::Away(50_000), Step::Wait, Step::Run(10_000), Step::Lap].repeat(5),
    );
    assert!(meter.open > 0);
    let lap_ns = last_lap(&mut meter, &[Step::Run(5_000), Step::Away(90_000), Step::Run(5_000), Step::Lap]);
    assert!((10_000..=10_000 + MAX_ERROR_NS).contains(&lap_ns), "{lap_ns}");
}

/// A turn may have many laps, and each long one reads the clock.
#[test]
fn at_most_one_reading_in_two_thousand_estimates_a_lap() {
    let mut meter = Meter::start(Machine::exact(true), HYBRID);
    let mut turn = vec![Step::Run(3_000), Step::Away(50_000), Step::Wait];
    turn.extend([Step::Run(25_000), Step::Away(10_000), Step::Run(25_000), Step::Lap]);
    turn.extend([Step::Run(50_000), Step::Lap].repeat(19));
    let mut estimates = 0;
    for &step in turn.iter().cycle().take(turn.len() * 5_000) {
        let open = meter.open;
        last_lap(&mut meter, &[step]);
        estimates += u64::from(open != 0 && meter.careful == CAREFUL_READINGS);
    }
    assert!(estimates > 0 && estimates <= meter.readings() / u64::from(CAREFUL_READINGS) + 1, "{estimates}");
}

#[test]
fn a_lap_that_ends_exactly_leaves_no_wait_open() {
    let mut meter = Meter::start(Machine::exact(true), HYBRID);
    (meter.careful, meter.mean_wait_ns) = (0, 3_000);
    for step in TURN {
        meter.clocks().step(step);
        if let Step::Wait = step {
            assert_eq!((meter.wait(), meter.take_waits()), (0, 0));
        }
    }
    assert_eq!((meter.lap_exactly(), meter.take_waits(), meter.take_waits()), (10_000, 3_000, 0));
    assert_eq!(meter.charged_ns(), 13_000);
}

/// As an interrupt does: it takes CPU time between the reading of one clock and that of the other.
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
