//! What one request has cost so far.

use crate::account::Usage;

/// The running total of one request, and how much of it has been settled into its accounts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RequestMeter {
    total_ns: u64,
    connection_ns: u64,
    wakeups: u64,
    settled: Usage,
}

impl RequestMeter {
    /// Charges a lap of `ns` nanoseconds.
    #[inline]
    pub fn charge(&mut self, ns: u64) {
        self.total_ns += ns;
    }

    /// Takes `ns` nanoseconds over that the connection spent before the request was known.
    #[inline]
    pub fn take_over(&mut self, ns: u64) {
        self.total_ns += ns;
        self.connection_ns += ns;
    }

    /// Gives back what was taken over, as far as it has not been settled: in nanoseconds.
    pub fn give_back(&mut self) -> u64 {
        let ns = self.connection_ns.min(self.total_ns.saturating_sub(self.settled.cpu_ns));
        self.connection_ns -= ns;
        self.total_ns -= ns;
        ns
    }

    /// One more wakeup on behalf of this request.
    #[inline]
    pub fn wake(&mut self) {
        self.wakeups += 1;
    }

    /// CPU of the request so far, in nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.total_ns
    }

    /// The part of it that came from the connection, in nanoseconds.
    pub fn connection_ns(&self) -> u64 {
        self.connection_ns
    }

    /// Number of wakeups.
    pub fn wakeups(&self) -> u64 {
        self.wakeups
    }

    /// What has come up since the last call of [`RequestMeter::settle`]; nothing will come up any more.
    #[inline]
    pub fn finish(&self, sent_bytes: u64, received_bytes: u64) -> Usage {
        let total = Usage { cpu_ns: self.total_ns, wakeups: self.wakeups, sent_bytes, received_bytes };
        total.since(&self.settled)
    }

    /// As [`RequestMeter::settle`], but for what was taken over: a request that is in no account may have to give it back.
    pub fn settle_own(&mut self, sent_bytes: u64, received_bytes: u64) -> Usage {
        let own_ns = self.total_ns - self.connection_ns;
        let own = Usage { cpu_ns: own_ns, wakeups: self.wakeups, sent_bytes, received_bytes };
        let delta = own.since(&self.settled);
        self.settled = self.settled.plus(&delta);
        delta
    }

    /// What has come up since the last call, to be added to the accounts; `sent` and `received` are the request's
    /// totals in bytes.
    pub fn settle(&mut self, sent_bytes: u64, received_bytes: u64) -> Usage {
        let delta = self.finish(sent_bytes, received_bytes);
        self.settled = self.settled.plus(&delta);
        delta
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::cases;

    #[test]
    fn what_comes_from_the_connection_is_part_of_the_total() {
        let mut meter = RequestMeter::default();
        meter.take_over(2_000);
        meter.charge(30);
        meter.wake();
        assert_eq!((meter.total_ns(), meter.connection_ns(), meter.wakeups()), (2_030, 2_000, 1));
    }

    #[test]
    fn a_total_that_falls_gives_no_negative_difference() {
        let mut meter = RequestMeter::default();
        assert_eq!(meter.settle(100, 10).sent_bytes, 100);
        assert_eq!(meter.settle(70, 10).sent_bytes, 0);
        assert_eq!(meter.settle(120, 10).sent_bytes, 20, "only what was not settled yet");
    }

    #[test]
    fn settling_twice_settles_once() {
        let mut meter = RequestMeter::default();
        meter.charge(5);
        meter.wake();
        assert_eq!(meter.finish(1, 2), Usage { cpu_ns: 5, wakeups: 1, sent_bytes: 1, received_bytes: 2 });
        assert_eq!(meter.settle(1, 2), Usage { cpu_ns: 5, wakeups: 1, sent_bytes: 1, received_bytes: 2 });
        assert_eq!(meter.settle(1, 2), Usage::default());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Charge(u64),
        TakeOver(u64),
        Wake,
        Send(u64),
        Receive(u64),
        Settle,
    }

    fn step() -> impl Strategy<Value = Step> {
        let amount = 0u64..1 << 40;
        prop_oneof![
            amount.clone().prop_map(Step::Charge),
            amount.clone().prop_map(Step::TakeOver),
            Just(Step::Wake),
            amount.clone().prop_map(Step::Send),
            amount.prop_map(Step::Receive),
            Just(Step::Settle),
        ]
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn what_is_settled_adds_up_to_the_totals(steps in prop::collection::vec(step(), 0..100)) {
            let mut meter = RequestMeter::default();
            let (mut settled, mut cpu_ns, mut connection_ns) = (Usage::default(), 0, 0);
            let (mut wakeups, mut sent_bytes, mut received_bytes) = (0, 0, 0);
            for step in steps.into_iter().chain([Step::Settle]) {
                match step {
                    Step::Charge(ns) => { meter.charge(ns); cpu_ns += ns }
                    Step::TakeOver(ns) => { meter.take_over(ns); cpu_ns += ns; connection_ns += ns }
                    Step::Wake => { meter.wake(); wakeups += 1 }
                    Step::Send(bytes) => sent_bytes += bytes,
                    Step::Receive(bytes) => received_bytes += bytes,
                    Step::Settle => settled = settled.plus(&meter.settle(sent_bytes, received_bytes)),
                }
                prop_assert_eq!(meter.total_ns(), cpu_ns);
                prop_assert_eq!(meter.connection_ns(), connection_ns);
                prop_assert_eq!(meter.wakeups(), wakeups);
            }
            prop_assert_eq!(settled, Usage { cpu_ns, wakeups, sent_bytes, received_bytes });
        }
    }
}
