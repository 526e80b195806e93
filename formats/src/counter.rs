//! The description of a counter.

use crate::classes;

/// The unit of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unit {
    Requests,
    Calls,
    Bytes,
    Nanoseconds,
    Milliseconds,
    Seconds,
    ByteMilliseconds,
    GigabyteSeconds,
    SecondsPerGigabyte,
    Cores,
    /// several members, each with its own unit
    Limits,
    /// several averages
    Averages,
    /// a number of requests or handshakes, and their CPU in nanoseconds
    Tallies,
}

impl Unit {
    /// The name in the documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Requests => "requests",
            Unit::Calls => "calls",
            Unit::Bytes => "bytes",
            Unit::Nanoseconds => "ns",
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::ByteMilliseconds => "bytes × ms",
            Unit::GigabyteSeconds => "GB × s",
            Unit::SecondsPerGigabyte => "s / GB",
            Unit::Cores => "cores",
            Unit::Limits => "cores and ns",
            Unit::Averages => "averages",
            Unit::Tallies => "requests and ns",
        }
    }
}

/// How a counter changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is the current value.
    Gauge,
    /// It is the highest value so far.
    Peak,
}

/// The level of detail from which a counter is shown in the status.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Always: no histograms and no breakdowns.
    Low,
    /// Only in the full status.
    #[default]
    Full,
}

impl Detail {
    /// From the name in a directive or in an argument.
    pub fn from_name(name: &[u8]) -> Option<Detail> {
        match name {
            b"full" => Some(Detail::Full),
            b"low" => Some(Detail::Low),
            _ => None,
        }
    }
}

/// A figure without cells. It is computed, or read from another source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// the sum of requests by their order in the connection
    Requests,
    /// requests in flight
    InFlight,
    /// average cores over windows
    Cores,
    /// CPU per gigabyte sent
    CpuPerGigabyte,
    /// CPU per request
    CpuPerRequest,
    /// memory times time
    GigabyteSeconds,
    /// the highest CPU of one second
    Peak,
    /// all limits
    Limits,
    /// averages over windows
    Windows,
}

/// The cells of a counter, each a number of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One number.
    One,
    /// A number for each class.
    Classes(&'static [&'static str]),
    /// For each class the number of `requests` or `handshakes`, and their CPU.
    Tallies {
        /// the classes
        classes: &'static [&'static str],
        /// `requests` or `handshakes`
        counted: &'static str,
    },
    /// Like tallies of requests, but shown with the limit of the account.
    Refusals(&'static [&'static str]),
    /// The number of requests for each of [`classes::CPU_BOUNDS_NS`], and above the last one.
    Histogram,
    /// No cells.
    Figure(Figure),
}

impl Shape {
    /// The number of cells.
    pub const fn cells(self) -> usize {
        match self {
            Shape::One => 1,
            Shape::Classes(classes) => classes.len(),
            Shape::Tallies { classes, .. } | Shape::Refusals(classes) => 2 * classes.len(),
            Shape::Histogram => classes::CPU_BOUNDS_NS.len() + 1,
            Shape::Figure(_) => 0,
        }
    }
}

/// A part of a tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Of {
    Requests,
    Cpu,
}

/// A signal for autoscalers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Signal {
    InFlight,
    Requests,
    Cores,
}

/// The source of a family's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// The counter itself.
    Value,
    /// A sample for each class that is not zero, with this label.
    Class(&'static str),
    /// A part of the tally of each class that has requests, with this label.
    Tally(&'static str, Of),
    /// A part of the refusals of limits.
    Refused(Of),
    /// The rate of the limit.
    LimitRate,
    /// The debt of the limit.
    LimitDebt,
    /// A signal over each window.
    Window(Signal),
    /// Buckets, sum and count.
    Histogram,
}

/// A family of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// without the prefix [`PREFIX`]
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`
    pub kind: &'static str,
    /// its help text
    pub help: &'static str,
    /// the source of its samples
    pub sample: Sample,
}

impl Family {
    /// A family that is not in the table: of a worker or of a zone.
    pub const fn new(kind: &'static str, name: &'static str, help: &'static str) -> Family {
        Family { name, kind, help, sample: Sample::Value }
    }
}

/// The prefix of the names of all families.
pub const PREFIX: &str = "nginx_request_cpu_";

/// The form of a counter in the traffic log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// The counter is not in the log.
    No,
    /// The number of the interval, in every line, under the counter's name.
    Always,
    /// The number of the interval at the end of the line, if it is not zero.
    IfNotZero,
    /// The first cell at the end of the line, under this name, if it is not zero.
    First(&'static str),
    /// The number of each class. Classes that are not named here are at the end of the line, if they are not zero.
    Classes(&'static [&'static str]),
    /// The highest value of the interval, under this name.
    Peak(&'static str),
}

/// A counter of an account, as the table declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// the member of the status, and of the traffic log
    pub name: &'static str,
    /// its unit
    pub unit: Unit,
    /// its help text
    pub help: &'static str,
    /// the kind of its changes
    pub kind: Kind,
    /// the level of detail from which it is shown
    pub detail: Detail,
    /// its cells
    pub shape: Shape,
    /// its name in the state file
    pub stored_name: &'static str,
    /// the stored number divided by this is the shown number
    pub divisor: u64,
    /// its families in Prometheus
    pub families: [Option<Family>; 4],
    /// its form in the traffic log
    pub log: Log,
}

impl Counter {
    const fn new(name: &'static str, unit: Unit, kind: Kind, shape: Shape, help: &'static str) -> Counter {
        Counter {
            name,
            unit,
            help,
            kind,
            detail: Detail::Low,
            shape,
            stored_name: name,
            divisor: 1,
            families: [None; 4],
            log: Log::No,
        }
    }

    /// A number that only grows.
    pub const fn number(name: &'static str, unit: Unit, help: &'static str) -> Counter {
        Counter::new(name, unit, Kind::Counter, Shape::One, help)
    }

    /// A figure without cells.
    pub const fn figure(name: &'static str, unit: Unit, figure: Figure, help: &'static str) -> Counter {
        let kind = match figure {
            Figure::Requests => Kind::Counter,
            Figure::GigabyteSeconds => Kind::Counter,
            Figure::Peak => Kind::Peak,
            _ => Kind::Gauge,
        };
        Counter::new(name, unit, kind, Shape::Figure(figure), help)
    }

    /// A number for each class.
    pub const fn classes(
        name: &'static str,
        unit: Unit,
        classes: &'static [&'static str],
        help: &'static str,
    ) -> Counter {
        Counter::new(name, unit, Kind::Counter, Shape::Classes(classes), help)
    }

    /// A number and CPU for each class.
    pub const fn tallies(
        name: &'static str,
        counted: &'static str,
        classes: &'static [&'static str],
        help: &'static str,
    ) -> Counter {
        Counter::new(name, Unit::Tallies, Kind::Counter, Shape::Tallies { classes, counted }, help).full()
    }

    /// Refusals of limits.
    pub const fn refusals(
        name: &'static str,
        classes: &'static [&'static str],
        help: &'static str,
    ) -> Counter {
        Counter::new(name, Unit::Limits, Kind::Counter, Shape::Refusals(classes), help)
    }

    /// The histogram of CPU per request.
    pub const fn histogram(name: &'static str, help: &'static str) -> Counter {
        Counter::new(name, Unit::Requests, Kind::Counter, Shape::Histogram, help).full()
    }

    /// Shows the counter only in the full status.
    #[must_use]
    pub const fn full(mut self) -> Counter {
        self.detail = Detail::Full;
        self
    }

    /// Stores the counter in a finer unit than it is shown in, under another name.
    #[must_use]
    pub const fn stored_as(mut self, name: &'static str, divisor: u64) -> Counter {
        self.stored_name = name;
        self.divisor = divisor;
        self
    }

    const fn with(
        mut self,
        kind: &'static str,
        name: &'static str,
        sample: Sample,
        help: &'static str,
    ) -> Counter {
        let mut at = 0;
        while self.families[at].is_some() {
            at += 1;
        }
        self.families[at] = Some(Family { name, kind, help, sample });
        self
    }

    /// Adds a family of counters with its own help text.
    #[must_use]
    pub const fn family(self, name: &'static str) -> Counter {
        self.with("counter", name, Sample::Value, self.help)
    }

    /// Adds a family of counters by class.
    #[must_use]
    pub const fn family_by(self, name: &'static str, label: &'static str) -> Counter {
        self.with("counter", name, Sample::Class(label), self.help)
    }

    /// Adds a family of counters.
    #[must_use]
    pub const fn family_of(self, name: &'static str, sample: Sample, help: &'static str) -> Counter {
        self.with("counter", name, sample, help)
    }

    /// Adds a gauge with its own help text.
    #[must_use]
    pub const fn gauge(self, name: &'static str) -> Counter {
        self.with("gauge", name, Sample::Value, self.help)
    }

    /// Adds a gauge.
    #[must_use]
    pub const fn gauge_of(self, name: &'static str, sample: Sample, help: &'static str) -> Counter {
        self.with("gauge", name, sample, help)
    }

    /// Adds a histogram.
    #[must_use]
    pub const fn histogram_family(self, name: &'static str) -> Counter {
        self.with("histogram", name, Sample::Histogram, self.help)
    }

    const fn logged(mut self, log: Log) -> Counter {
        self.log = log;
        self
    }

    /// Shows the counter in every line of the traffic log. New counters use [`Counter::log_if_not_zero`], because new
    /// members must be at the end of the line.
    #[must_use]
    pub const fn log(self) -> Counter {
        self.logged(Log::Always)
    }

    /// Shows the counter at the end of a line of the traffic log, if it is not zero.
    #[must_use]
    pub const fn log_if_not_zero(self) -> Counter {
        self.logged(Log::IfNotZero)
    }

    /// Shows the counter as [`Log::First`].
    #[must_use]
    pub const fn log_first(self, name: &'static str) -> Counter {
        self.logged(Log::First(name))
    }

    /// Shows the counter as [`Log::Classes`].
    #[must_use]
    pub const fn log_classes(self, always: &'static [&'static str]) -> Counter {
        self.logged(Log::Classes(always))
    }

    /// Shows the counter as [`Log::Peak`].
    #[must_use]
    pub const fn log_peak(self, name: &'static str) -> Counter {
        self.logged(Log::Peak(name))
    }
}
