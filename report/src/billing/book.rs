//! Adds up the usage of domains by billing periods. Only members that the plans need are kept.
//!
//! Several threads add at once. Domains are spread over shards by a hash, and each shard has a lock.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use formats::line::tolerance_ms;
use hashbrown::{DefaultHashBuilder, Equivalent, HashMap};

use super::metric::Samples;
use super::plan::Plan;
use crate::time::{self, By, Millis, slot};
use crate::traffic::Ends;
use crate::traffic::Member;
use crate::traffic::Series;
use crate::traffic::part;

/// The length of a billing period. Periods follow the time zone of `--time-zone`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Period {
    /// an hour
    Hour,
    /// a day
    Day,
    /// a month of the calendar
    #[default]
    Month,
    /// all of the time
    Total,
}

impl Period {
    fn by(self) -> Option<By> {
        match self {
            Self::Hour => Some(By::Hour),
            Self::Day => Some(By::Day),
            Self::Month => Some(By::Month),
            Self::Total => None,
        }
    }

    /// The period of a time.
    pub fn of(self, time: Millis) -> u32 {
        self.by().map_or(0, |by| by.bucket(time))
    }

    /// The begin and end of a period, within a range.
    pub fn bounds(self, period: u32, (from, to): (Millis, Millis)) -> (Millis, Millis) {
        let (begin, end) = self.by().map_or((from, to), |by| by.bounds(period));
        (begin.max(from), end.min(to))
    }

    /// The end of a period. None if the whole time is one period.
    fn end(self, period: u32) -> Option<Millis> {
        self.by().map(|by| by.bounds(period).1)
    }

    /// The name in arguments.
    pub fn name(self) -> &'static str {
        self.by().map_or("total", By::name)
    }
}

/// The members and samples that plans need.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// members that are added up
    pub members: Vec<Member>,
    /// numbers that are kept by slots
    pub samples: Vec<Samples>,
}

impl Needs {
    /// The needs of these plans.
    pub fn of(plans: &[Plan]) -> Self {
        let mut needs = Self::default();
        for item in plans.iter().flat_map(|plan| &plan.items) {
            for member in item.measure.members() {
                if !needs.members.contains(member) {
                    needs.members.push(*member);
                }
            }
            if let Some(samples) = item.measure.samples().filter(|samples| !needs.samples.contains(samples)) {
                needs.samples.push(samples);
            }
        }
        needs
    }
}

/// The usage by member.
pub type Used = [u64; Member::ALL.len()];

/// The usage of a domain in a period.
#[derive(Debug)]
struct PeriodUsage {
    period: u32,
    /// whether the domain pays the base fee and the minimum of the period
    has_fees: bool,
    /// of each member that is needed
    sums: Box<[u128]>,
}

/// The usage of a domain.
#[derive(Debug, Default)]
pub struct DomainUsage {
    /// in order
    periods: Vec<PeriodUsage>,
    /// of each kind that is needed
    samples: Box<[Series]>,
    /// the hosts and times of its lines
    ends: Ends,
}

impl DomainUsage {
    fn add(&mut self, needs: &Needs, (period, has_fees): (u32, bool), number: impl Fn(Member) -> u128) {
        let place = match self.periods.last() {
            Some(last) if last.period == period => Ok(self.periods.len() - 1),
            Some(last) if last.period < period => Err(self.periods.len()),
            _ => self.place(period),
        };
        let place = place.unwrap_or_else(|place| {
            let sums = vec![0; needs.members.len()].into();
            // most domains of a bill are in one period
            if self.periods.is_empty() {
                self.periods.reserve_exact(1);
            }
            self.periods.insert(place, PeriodUsage { period, has_fees, sums });
            place
        });
        let Some(PeriodUsage { has_fees: fees, sums, .. }) = self.periods.get_mut(place) else { return };
        *fees |= has_fees;
        for (sum, member) in sums.iter_mut().zip(&needs.members) {
            *sum = match member {
                Member::Peak => (*sum).max(number(*member)),
                _ => sum.saturating_add(number(*member)),
            };
        }
    }

    fn place(&self, period: u32) -> Result<usize, usize> {
        self.periods.binary_search_by_key(&period, |usage| usage.period)
    }

    fn of(&self, period: u32) -> Option<&PeriodUsage> {
        self.periods.get(self.place(period).ok()?)
    }
}

/// All domains with their usage, in the order of their names.
#[derive(Debug)]
pub struct Accounts {
    /// the members and samples that are known
    pub needs: Needs,
    /// the length of a period
    pub period: Period,
    /// the time that the bill covers
    pub range: (Millis, Millis),
    /// the zone; none if there was no line
    pub zone: Option<String>,
    /// by name
    pub domains: Vec<(Box<str>, DomainUsage)>,
}

impl Accounts {
    /// The periods with usage, in order.
    pub fn periods(&self) -> Vec<u32> {
        let usages = self.domains.iter().flat_map(|(_, account)| &account.periods);
        let seen: BTreeSet<u32> = usages.map(|usage| usage.period).collect();
        seen.into_iter().collect()
    }

    /// Whether there was a line of the domain in the period.
    pub fn is_in(account: &DomainUsage, period: u32) -> bool {
        account.of(period).is_some()
    }

    /// Whether the domain pays the base fee and the minimum of the period; see [`Book::add`].
    pub fn has_fees(account: &DomainUsage, period: u32) -> bool {
        account.of(period).is_some_and(|usage| usage.has_fees)
    }

    /// The usage of a domain in a period.
    pub fn used(&self, account: &DomainUsage, period: u32, member: Member) -> u128 {
        let at = self.needs.members.iter().position(|needed| *needed == member);
        account.of(period).zip(at).and_then(|(usage, at)| usage.sums.get(at)).copied().unwrap_or(0)
    }

    /// The samples of a domain in a period that are not 0, and the number of all samples. A slot that is cut
    /// by the begin or end of the time is a sample like any other.
    pub fn samples(&self, account: &DomainUsage, period: u32, samples: Samples) -> (Vec<u128>, u64) {
        let (begin, end) = self.period.bounds(period, self.range);
        if begin >= end {
            return (Vec::new(), 0);
        }
        let (first, last) = (slot(begin), slot(end - 1));
        let at = self.needs.samples.iter().position(|needed| *needed == samples);
        let series = at.and_then(|at| account.samples.get(at));
        let within = |(slot, value): (u32, u128)| (first..=last).contains(&slot).then_some(value);
        let values = series.map(|series| series.iter().filter_map(within).collect()).unwrap_or_default();
        (values, u64::from(last - first) + 1)
    }
}

/// The accounts while they are added up.
pub struct Book {
    needs: Needs,
    period: Period,
    from: Option<Millis>,
    to: Option<Millis>,
    max_domains: usize,
    hasher: DefaultHashBuilder,
    shards: Vec<Mutex<HashMap<Box<str>, DomainUsage, DefaultHashBuilder>>>,
    domains: AtomicUsize,
    is_full: AtomicBool,
    zones: Mutex<Vec<String>>,
}

const SHARDS: usize = 64;

/// A borrowed name, for look-ups.
#[derive(Hash)]
struct Name<'a>(&'a str);

impl Equivalent<Box<str>> for Name<'_> {
    fn equivalent(&self, key: &Box<str>) -> bool {
        *self.0 == **key
    }
}

impl Book {
    /// An empty book for usage from `from` to `to`.
    pub fn new(
        needs: Needs,
        period: Period,
        (from, to): (Option<Millis>, Option<Millis>),
        max_domains: usize,
    ) -> Self {
        let hasher = DefaultHashBuilder::default();
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect();
        Self {
            needs,
            period,
            from,
            to,
            max_domains,
            hasher,
            shards,
            domains: AtomicUsize::new(0),
            is_full: AtomicBool::new(false),
            zones: Mutex::default(),
        }
    }

    /// Records a zone with usage.
    pub fn add_zone(&self, name: &str) {
        let mut zones = lock(&self.zones);
        // a few zones are enough for the error message
        if zones.len() < 10 && !zones.iter().any(|zone| zone == name) {
            zones.push(name.to_owned());
        }
    }

    /// Adds the usage of a domain from `begin` to `end`, spread evenly over that time. A remainder from
    /// rounding down before a border goes to the other side. The peak belongs to the end of the time.
    ///
    /// If requests were served (`is_served`), the domain pays the fees of the period in which the time
    /// begins, and of each later period that the time covers at least half of. A line that only ends in a
    /// period may be a late line of the period before. The length and the end of a line come from different
    /// clocks. So a begin before a border, by less than the module's own tolerance, counts as at the border.
    pub fn add(&self, name: &str, time: (Millis, Millis), used: &Used, is_served: bool) {
        self.add_if(name, time, used, is_served, |_| true);
    }

    /// As `add`, but only if `counts` returns true for the ends of the domain's lines so far.
    pub fn add_if(
        &self,
        name: &str,
        (begin, end): (Millis, Millis),
        used: &Used,
        is_served: bool,
        counts: impl FnOnce(&mut Ends) -> bool,
    ) {
        let (first, last) = time::clip(begin, end, self.from, self.to);
        if first >= last {
            return;
        }
        let hash = self.hasher.hash_one(Name(name));
        // the table in the shard uses other bits of the hash
        let Some(shard) = self.shards.get((hash >> 32) as usize % SHARDS) else { return };
        let mut shard = lock(shard);
        let account = match shard.get_mut(&Name(name)) {
            Some(account) => account,
            None => {
                if self.domains.fetch_add(1, Ordering::Relaxed) >= self.max_domains {
                    self.is_full.store(true, Ordering::Relaxed);
                    return;
                }
                let samples = self.needs.samples.iter().map(|_| Series::default()).collect();
                shard.entry(name.into()).or_insert(DomainUsage {
                    periods: Vec::new(),
                    samples,
                    ends: Ends::default(),
                })
            }
        };
        if !counts(&mut account.ends) {
            return;
        }
        let mut from = first;
        while from < last {
            let period = self.period.of(from);
            let to = if slot(from) == slot(last - 1) {
                // most lines lie in one slot, and a slot lies in one period
                last
            } else if self.needs.samples.is_empty() {
                // a line of several years has many slots; they are kept only if a plan needs them
                self.period.end(period).unwrap_or(last).min(last)
            } else {
                By::FiveMinutes.bounds(slot(from)).1.min(last)
            };
            let number = |member: Member| {
                let number = u128::from(used.get(member as usize).copied().unwrap_or(0));
                match member {
                    Member::Peak if to == end => number,
                    Member::Peak => 0,
                    _ => part(number, from - begin, to - begin, end - begin),
                }
            };
            let has_fees = is_served && self.has_fees(period, (begin, end));
            account.add(&self.needs, (period, has_fees), number);
            for (series, samples) in account.samples.iter_mut().zip(&self.needs.samples) {
                series.add(slot(from), samples.members().iter().map(|member| number(*member)).sum());
            }
            from = to;
        }
    }

    /// Whether a domain pays the fees of a period for a line of this time.
    fn has_fees(&self, period: u32, (begin, end): (Millis, Millis)) -> bool {
        if slot(begin) == slot(end - 1) && self.from.is_none_or(|from| begin >= from) {
            return true;
        }
        let billed = (self.from.unwrap_or(Millis::MIN), self.to.unwrap_or(Millis::MAX));
        let (first, last) = self.period.bounds(period, billed);
        let tolerance_ms = tolerance_ms((end - begin).unsigned_abs());
        let begin = begin + Millis::try_from(tolerance_ms).unwrap_or_default();
        let covered = end.min(last) - begin.max(first);
        (first..last).contains(&begin) || 2 * covered >= last.saturating_sub(first)
    }

    /// Fails if there is more than one zone.
    pub fn check_zones(&self) -> Result<(), String> {
        let mut zones = lock(&self.zones).clone();
        if zones.len() < 2 {
            return Ok(());
        }
        zones.sort();
        Err(format!("a bill covers one zone: choose it with --zone ({})", zones.join(", ")))
    }

    /// The domains by name. Fails if there can be no bill.
    pub fn into_accounts(self, range: (Millis, Millis)) -> Result<Accounts, String> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(format!(
                "there are more than {} domains, and a bill needs all (--max-domains, --domain)",
                self.max_domains
            ));
        }
        self.check_zones()?;
        let mut zones = self.zones.into_inner().unwrap_or_else(PoisonError::into_inner);
        let shards = self.shards.into_iter();
        let mut domains: Vec<(Box<str>, DomainUsage)> =
            shards.flat_map(|shard| shard.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        domains.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Accounts { needs: self.needs, period: self.period, range, zone: zones.pop(), domains })
    }
}

// a panic ends the program, so no thread sees data that a panic left half changed
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Member; 11] = Member::ALL;

    fn needs() -> Needs {
        Needs { members: ALL.to_vec(), samples: Samples::ALL.to_vec() }
    }

    proptest! {
        #[test]
        fn periods_and_samples_add_up_to_the_lines(
            lines in prop::collection::vec(("[a-d]", 1_769_000_000_000i64..1_773_000_000_000,
                    1i64..10_000_000, any::<[u32; 11]>()), 1..40),
            period in prop::sample::select(&[Period::Hour, Period::Day, Period::Month, Period::Total][..]),
        ) {
            let book = Book::new(needs(), period, (None, None), 10);
            let mut sums = [0u128; 11];
            let mut range = (i64::MAX, 0);
            for (name, begin, length, numbers) in &lines {
                book.add(name, (*begin, begin + length), &numbers.map(u64::from), true);
                sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += u128::from(*number));
                range = (range.0.min(*begin), range.1.max(begin + length));
            }
            sums[Member::Peak as usize] = lines.iter().map(|line| line.3[Member::Peak as usize].into()).max().unwrap();
            let accounts = book.into_accounts(range).unwrap();
            let periods = accounts.periods();
            for member in ALL {
                let all = accounts
                    .domains.iter()
                    .flat_map(|(_, account)| periods.iter().map(|period| accounts.used(account, *period, member)));
                let found = if member == Member::Peak { all.max().unwrap() } else { all.sum() };
                prop_assert_eq!(found, sums[member as usize], "{:?}", member);
            }
            for samples in Samples::ALL {
                let wanted: u128 = samples.members().iter().map(|member| sums[*member as usize]).sum();
                let of = |account, period: u32| accounts.samples(account, period, samples).0.iter().sum::<u128>();
                let found: u128 = accounts
                    .domains.iter()
                    .flat_map(|(_, account)| periods.iter().map(move |period| of(account, *period))).sum();
                prop_assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn a_slot_without_a_line_is_a_sample_of_nothing() {
        let book = Book::new(needs(), Period::Hour, (None, None), 10);
        let hour = 3_600_000;
        let mut used = Used::default();
        used[Member::Cpu as usize] = 5;
        book.add("a", (hour, hour + 1000), &used, true);
        book.add("a", (3 * hour, 3 * hour + 1000), &used, true);
        let accounts = book.into_accounts((hour + 600_000, 4 * hour)).unwrap();
        let (_, account) = &accounts.domains[0];
        // from 01:10 on there are ten slots, and twelve in the others
        assert_eq!(accounts.samples(account, 1, Samples::Cpu), (vec![], 10));
        assert_eq!(accounts.samples(account, 2, Samples::Cpu), (vec![], 12));
        assert_eq!(accounts.samples(account, 3, Samples::Cpu), (vec![5], 12));
        assert_eq!(accounts.periods(), [1, 3]);
    }

    #[test]
    fn a_peak_is_in_the_period_in_which_its_line_ends() {
        let mut used = Used::default();
        used[Member::Peak as usize] = 7;
        let hour = 3_600_000;
        let peaks = |from, to| {
            let book = Book::new(needs(), Period::Hour, (from, to), 10);
            book.add("a", (hour - 1000, hour + 1000), &used, true);
            let accounts = book.into_accounts((0, 2 * hour)).unwrap();
            [0, 1].map(|period| accounts.used(&accounts.domains[0].1, period, Member::Peak))
        };
        assert_eq!(peaks(None, None), [0, 7]);
        assert_eq!(peaks(Some(hour), None), [0, 7]);
        // the next bill has it
        assert_eq!(peaks(None, Some(hour)), [0, 0]);
    }

    #[test]
    fn a_bill_is_of_all_domains_of_one_zone() {
        let book = Book::new(needs(), Period::Month, (None, None), 1);
        book.add("a", (0, 1), &Used::default(), true);
        book.add("a", (0, 1), &Used::default(), true);
        book.add("b", (0, 1), &Used::default(), true);
        assert!(book.into_accounts((0, 1)).unwrap_err().starts_with("there are more than 1 domains"));
        let book = Book::new(needs(), Period::Month, (None, None), 1);
        ["b", "a", "b"].iter().for_each(|zone| book.add_zone(zone));
        assert!(book.into_accounts((0, 1)).unwrap_err().ends_with("--zone (a, b)"));
    }
}
