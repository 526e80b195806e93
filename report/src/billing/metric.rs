//! The billing metrics and their units.

use crate::time::SLOT_MS;
use crate::traffic::Member;

/// The billing metric of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BillingMetric {
    /// requests that ended
    Requests,
    /// the same number, under the name that is usual for functions
    Executions,
    /// CPU time
    Cpu,
    /// bytes sent
    Sent,
    /// bytes received
    Received,
    /// bytes sent and received
    Traffic,
    /// the sum of the durations of all requests
    Duration,
    /// time in which at least one request was in flight
    ActiveInterval,
    /// seconds whose CPU reached the threshold
    ActiveSeconds,
    /// CPU of these seconds
    BillableCpu,
    /// memory of requests times the time that they held it
    GbSeconds,
    /// the most CPU of one second
    PeakCores,
    /// a percentile of the cores of five minutes
    PercentileCores,
    /// a percentile of the bytes sent in five minutes
    PercentileSent,
    /// a percentile of the bytes received in five minutes
    PercentileReceived,
    /// a percentile of the bytes sent and received in five minutes
    PercentileTraffic,
}

/// The numbers that are kept by slots of five minutes, for percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples {
    /// nanoseconds of CPU
    Cpu,
    /// bytes
    Sent,
    /// bytes
    Received,
    /// bytes, of both directions
    Traffic,
}

impl Samples {
    /// All values.
    #[cfg(test)]
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Sent, Self::Received, Self::Traffic];

    /// The members that add up to it.
    pub fn members(self) -> &'static [Member] {
        match self {
            Self::Cpu => &[Member::Cpu],
            Self::Sent => &[Member::Sent],
            Self::Received => &[Member::Received],
            Self::Traffic => &[Member::Sent, Member::Received],
        }
    }
}

/// A unit of a measure.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    /// the name in a plan
    pub name: &'static str,
    /// the name after a number
    pub plural: &'static str,
    /// in smallest units
    pub size: u128,
}

const fn unit(name: &'static str, size: u128) -> Unit {
    Unit { name, plural: name, size }
}

const fn count(name: &'static str, plural: &'static str, size: u128) -> Unit {
    Unit { name, plural, size }
}

const SLOT_S: u128 = SLOT_MS as u128 / 1000;

// the first unit of each list is the default
const REQUESTS: [Unit; 1] = [count("request", "requests", 1)];
const EXECUTIONS: [Unit; 1] = [count("execution", "executions", 1)];
const CPU: [Unit; 4] = [
    unit("s", 1_000_000_000),
    unit("ms", 1_000_000),
    unit("min", 60_000_000_000),
    unit("h", 3_600_000_000_000),
];
const TIME: [Unit; 4] = [unit("s", 1000), unit("ms", 1), unit("min", 60_000), unit("h", 3_600_000)];
const BYTES: [Unit; 10] = [
    unit("GB", 1_000_000_000),
    unit("byte", 1),
    unit("kB", 1000),
    unit("MB", 1_000_000),
    unit("TB", 1_000_000_000_000),
    unit("PB", 1_000_000_000_000_000),
    unit("KiB", 1 << 10),
    unit("MiB", 1 << 20),
    unit("GiB", 1 << 30),
    unit("TiB", 1 << 40),
];
const MEMORY: [Unit; 4] = [
    unit("GB-s", 1_000_000_000_000),
    unit("MB-s", 1_000_000_000),
    unit("GB-h", 3_600_000_000_000_000),
    unit("GiB-s", 1000 << 30),
];
const PEAK: [Unit; 1] = [count("core", "cores", 1_000_000_000)];
const CORES: [Unit; 1] = [count("core", "cores", SLOT_S * 1_000_000_000)];
const BANDWIDTH: [Unit; 3] =
    [unit("Mbit/s", SLOT_S * 125_000), unit("kbit/s", SLOT_S * 125), unit("Gbit/s", SLOT_S * 125_000_000)];

impl BillingMetric {
    /// All values.
    pub const ALL: [Self; 16] = [
        Self::Requests,
        Self::Executions,
        Self::Cpu,
        Self::Sent,
        Self::Received,
        Self::Traffic,
        Self::Duration,
        Self::ActiveInterval,
        Self::ActiveSeconds,
        Self::BillableCpu,
        Self::GbSeconds,
        Self::PeakCores,
        Self::PercentileCores,
        Self::PercentileSent,
        Self::PercentileReceived,
        Self::PercentileTraffic,
    ];

    /// The name in a plan.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Executions => "executions",
            Self::Cpu => "cpu",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Traffic => "traffic",
            Self::Duration => "duration",
            Self::ActiveInterval => "active_interval",
            Self::ActiveSeconds => "active_seconds",
            Self::BillableCpu => "billable_cpu",
            Self::GbSeconds => "gb_seconds",
            Self::PeakCores => "peak_cores",
            Self::PercentileCores => "percentile_cores",
            Self::PercentileSent => "percentile_sent",
            Self::PercentileReceived => "percentile_received",
            Self::PercentileTraffic => "percentile_traffic",
        }
    }

    /// The units; the first one is the default.
    pub fn units(self) -> &'static [Unit] {
        match self {
            Self::Requests => &REQUESTS,
            Self::Executions => &EXECUTIONS,
            Self::Cpu | Self::BillableCpu => &CPU,
            Self::Sent | Self::Received | Self::Traffic => &BYTES,
            Self::Duration | Self::ActiveInterval | Self::ActiveSeconds => &TIME,
            Self::GbSeconds => &MEMORY,
            Self::PeakCores => &PEAK,
            Self::PercentileCores => &CORES,
            Self::PercentileSent | Self::PercentileReceived | Self::PercentileTraffic => &BANDWIDTH,
        }
    }

    /// The smallest unit. Quantities are whole numbers of it.
    pub fn smallest(self) -> &'static str {
        match self {
            Self::Requests | Self::Executions => "1",
            Self::Cpu | Self::BillableCpu => "ns",
            Self::Sent | Self::Received | Self::Traffic => "byte",
            Self::Duration | Self::ActiveInterval | Self::ActiveSeconds => "ms",
            Self::GbSeconds => "byte ms",
            Self::PeakCores => "ns/s",
            Self::PercentileCores => "ns/300s",
            Self::PercentileSent | Self::PercentileReceived | Self::PercentileTraffic => "byte/300s",
        }
    }

    /// The members of the log that the metric is computed from.
    pub fn members(self) -> &'static [Member] {
        match self {
            Self::Requests | Self::Executions => &[Member::Requests],
            Self::Cpu | Self::PercentileCores => &[Member::Cpu],
            Self::Sent | Self::PercentileSent => &[Member::Sent],
            Self::Received | Self::PercentileReceived => &[Member::Received],
            Self::Traffic | Self::PercentileTraffic => &[Member::Sent, Member::Received],
            Self::Duration => &[Member::Duration],
            Self::ActiveInterval => &[Member::Active],
            // the time with requests in flight that is not active is idle
            Self::ActiveSeconds => &[Member::ActiveSeconds, Member::Active],
            Self::BillableCpu => &[Member::Billable, Member::Waived],
            Self::GbSeconds => &[Member::Memory],
            Self::PeakCores => &[Member::Peak],
        }
    }

    /// The numbers that a percentile is taken of.
    pub fn samples(self) -> Option<Samples> {
        match self {
            Self::PercentileCores => Some(Samples::Cpu),
            Self::PercentileSent => Some(Samples::Sent),
            Self::PercentileReceived => Some(Samples::Received),
            Self::PercentileTraffic => Some(Samples::Traffic),
            _ => None,
        }
    }

    /// Whether the usage of domains can be added up.
    pub fn is_sum(self) -> bool {
        self != Self::PeakCores && self.samples().is_none()
    }

    /// Whether there is an idle part that is not charged, or at another rate.
    pub fn has_idle(self) -> bool {
        matches!(self, Self::ActiveSeconds | Self::BillableCpu)
    }
}
