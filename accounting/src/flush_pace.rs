//! When a worker adds its pending charges to shared memory.
//!
//! A worker with little to do adds them at the end of each turn of its event loop: nobody knows when the next turn
//! begins. A busy worker does so each millisecond only, since the same accounts get charges in most of its turns. Its
//! event loop waits for events no longer than that while charges are pending.

/// A busy worker adds its charges this often, in nanoseconds. It waits for events no longer.
const PERIOD_NS: u64 = 1_000_000;

/// A worker is busy after so many turns with shorter waits before them.
const BUSY_TURNS: u32 = 16;

/// When a worker adds its pending charges to shared memory.
#[derive(Debug, Default)]
pub struct FlushPace {
    /// turns with short waits before them, one after the other
    quick_turns: u32,
    /// when charges were added last, in nanoseconds
    flushed_ns: u64,
    is_deferred: bool,
}

impl FlushPace {
    /// At most so many milliseconds pass between two additions of a busy worker.
    pub const PERIOD_MS: usize = (PERIOD_NS / 1_000_000) as usize;

    /// A turn begins after a wait of so many nanoseconds.
    #[inline]
    pub fn begin_turn(&mut self, wait_ns: u64) {
        self.quick_turns = if wait_ns < PERIOD_NS { self.quick_turns.saturating_add(1) } else { 0 };
    }

    /// A turn is over at this time. Returns whether charges are to be added now.
    #[inline]
    pub fn end_turn(&mut self, now_ns: u64) -> bool {
        self.is_deferred =
            self.quick_turns >= BUSY_TURNS && now_ns.saturating_sub(self.flushed_ns) < PERIOD_NS;
        if !self.is_deferred {
            self.flushed_ns = now_ns;
        }
        !self.is_deferred
    }

    /// Charges were added for another reason.
    pub fn flushed(&mut self, now_ns: u64) {
        self.flushed_ns = now_ns;
        self.is_deferred = false;
    }

    /// Whether charges may be pending after the last turn.
    #[inline]
    pub fn is_deferred(&self) -> bool {
        self.is_deferred
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns as (wait, work) in nanoseconds; how many flushed.
    fn flushes(pace: &mut FlushPace, now_ns: &mut u64, turns: &[(u64, u64)]) -> usize {
        let mut flushes = 0;
        for &(wait_ns, work_ns) in turns {
            *now_ns += wait_ns;
            pace.begin_turn(wait_ns);
            *now_ns += work_ns;
            flushes += usize::from(pace.end_turn(*now_ns));
        }
        flushes
    }

    #[test]
    fn a_worker_with_little_to_do_flushes_in_each_turn() {
        let (mut pace, mut now_ns) = (FlushPace::default(), 1 << 40);
        assert_eq!(flushes(&mut pace, &mut now_ns, &[(PERIOD_NS, 50_000); 100]), 100);
        assert_eq!(flushes(&mut pace, &mut now_ns, &[(1_000, 50_000); 15]), 15, "it is not busy yet");
        assert!(!pace.is_deferred());
    }

    #[test]
    fn a_busy_worker_flushes_each_millisecond() {
        let (mut pace, mut now_ns) = (FlushPace::default(), 1 << 40);
        flushes(&mut pace, &mut now_ns, &[(1_000, 49_000); 20]);
        assert!(pace.is_deferred());
        assert_eq!(flushes(&mut pace, &mut now_ns, &[(1_000, 49_000); 2_000]), 100);
    }

    #[test]
    fn a_busy_worker_that_gets_nothing_to_do_flushes_at_its_next_turn() {
        let (mut pace, mut now_ns) = (FlushPace::default(), 1 << 40);
        flushes(&mut pace, &mut now_ns, &[(1_000, 49_000); 20]);
        assert!(pace.is_deferred());
        // the event loop waits for a period at most
        assert_eq!(flushes(&mut pace, &mut now_ns, &[(PERIOD_NS, 0)]), 1);
        assert!(!pace.is_deferred());
    }

    #[test]
    fn a_flush_for_another_reason_leaves_nothing_deferred() {
        let (mut pace, mut now_ns) = (FlushPace::default(), 1 << 40);
        flushes(&mut pace, &mut now_ns, &[(1_000, 49_000); 20]);
        pace.flushed(now_ns);
        assert!(!pace.is_deferred());
        assert_eq!(flushes(&mut pace, &mut now_ns, &[(1_000, 49_000); 19]), 0);
    }

    #[test]
    fn a_clock_that_goes_back_defers_no_longer_than_it_went_back() {
        let (mut pace, mut now_ns) = (FlushPace::default(), 1 << 40);
        flushes(&mut pace, &mut now_ns, &[(1_000, 49_000); 20]);
        now_ns -= 2 * PERIOD_NS;
        assert!(flushes(&mut pace, &mut now_ns, &[(1_000, 49_000); 100]) > 0);
    }
}
