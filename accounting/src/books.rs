//! The books of one worker: every lap ends up in exactly one of them.

/// Sums over one worker process since its hook went in, all in nanoseconds of CPU unless named otherwise.
///
/// [`Books::thread_cpu_ns`] is their sum by definition. A connection that has sent no request yet is *pending*: its
/// CPU is in none of the four until it is decided whether a request takes it over, so that no sum ever decreases.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    /// Calls of event handlers by the event loop (a count).
    pub wakeups: u64,
    /// Went to requests and accounts, settled or not.
    pub charged_ns: u64,
    /// Went to connections that never sent a request.
    pub no_request_ns: u64,
    /// The event loop itself: waiting for events and queueing them, timers.
    pub loop_ns: u64,
    /// Wakeups that nobody claimed.
    pub other_ns: u64,
    /// Not decided yet: connections that are open and have sent no request.
    pub pending_ns: u64,
    /// CPU of the worker's other threads (thread pools); not part of the identity.
    pub pool_threads_cpu_ns: u64,
    /// Readings of the clock of CPU time (a count).
    pub clock_readings: u64,
}

impl Books {
    /// The worker's thread CPU that is decided: charged + no request + loop + other.
    pub fn thread_cpu_ns(&self) -> u64 {
        self.charged_ns + self.no_request_ns + self.loop_ns + self.other_ns
    }

    /// A request takes over what its connection had pending.
    #[inline]
    pub fn pending_to_charged(&mut self, ns: u64) {
        self.pending_ns = self.pending_ns.saturating_sub(ns);
        self.charged_ns += ns;
    }

    /// A connection closed without a request.
    #[inline]
    pub fn pending_to_no_request(&mut self, ns: u64) {
        self.pending_ns = self.pending_ns.saturating_sub(ns);
        self.no_request_ns += ns;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::cases;

    #[derive(Debug, Clone)]
    enum Step {
        Charged(u64),
        NoRequest(u64),
        Loop(u64),
        Other(u64),
        /// a connection, and what it uses
        Pending(usize, u64),
        TakeOver(usize),
        Close(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let ns = 0u64..1 << 40;
        prop_oneof![
            ns.clone().prop_map(Step::Charged),
            ns.clone().prop_map(Step::NoRequest),
            ns.clone().prop_map(Step::Loop),
            ns.clone().prop_map(Step::Other),
            (0usize..4, ns).prop_map(|(at, ns)| Step::Pending(at, ns)),
            (0usize..4).prop_map(Step::TakeOver),
            (0usize..4).prop_map(Step::Close),
        ]
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn every_lap_is_in_exactly_one_book(steps in prop::collection::vec(step(), 0..100)) {
            let mut books = Books::default();
            let mut pending = [0; 4];
            let mut laps_ns = 0;
            for step in steps {
                let before = books;
                match step {
                    Step::Charged(ns) => { books.charged_ns += ns; laps_ns += ns }
                    Step::NoRequest(ns) => { books.no_request_ns += ns; laps_ns += ns }
                    Step::Loop(ns) => { books.loop_ns += ns; laps_ns += ns }
                    Step::Other(ns) => { books.other_ns += ns; laps_ns += ns }
                    Step::Pending(at, ns) => { books.pending_ns += ns; pending[at] += ns; laps_ns += ns }
                    Step::TakeOver(at) => books.pending_to_charged(std::mem::take(&mut pending[at])),
                    Step::Close(at) => books.pending_to_no_request(std::mem::take(&mut pending[at])),
                }
                prop_assert_eq!(books.thread_cpu_ns() + books.pending_ns, laps_ns);
                prop_assert_eq!(books.pending_ns, pending.iter().sum::<u64>());
                prop_assert!(books.charged_ns >= before.charged_ns && books.no_request_ns >= before.no_request_ns);
                prop_assert!(books.thread_cpu_ns() >= before.thread_cpu_ns());
            }
        }
    }

    #[test]
    fn pending_does_not_fall_below_zero() {
        let mut books = Books { pending_ns: 5, ..Books::default() };
        books.pending_to_charged(7);
        books.pending_to_no_request(1);
        assert_eq!(books, Books { charged_ns: 7, no_request_ns: 1, ..Books::default() });
    }
}
