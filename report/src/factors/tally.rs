//! Adds up requests by the factors of their CPU, in several threads at once.

use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

use super::cell::{Cell, Ratio, SmallCell};
use super::fields::{Field, Set};
use super::group::group;
use super::json::Faults;
use super::record::Record;
use super::repeated::Repeated;
use super::shared::SharedNames;

/// Upper bounds of the response sizes that are told apart, in powers of four, as in the module's status.
pub const SIZES: [&str; 10] = ["1k", "4k", "16k", "64k", "256k", "1m", "4m", "16m", "64m", "inf"];

/// The orders in a connection that are told apart.
pub const ORDERS: [&str; 4] = ["1", "2", "3", "4+"];

/// The requests without a cache, as in the module's status.
const NO_CACHE: &[u8] = b"NONE";

/// The sums of a thread, and in the end of all threads.
#[derive(Default)]
pub struct FactorSums {
    /// requests in the figures, if their lines have the needed values
    pub requests: u64,
    /// nanoseconds of their CPU
    pub cpu_ns: u64,
    /// lines without a CPU time
    pub without_cpu: u64,
    /// the part of those that are lines of a traffic log
    pub traffic_log: u64,
    /// whether there were lines of NGINX's own format
    pub has_combined: bool,
    /// whether there were such lines with a host before them
    pub has_host: bool,
    /// lines without a time, where one is needed
    pub without_time: u64,
    /// lines of subrequests
    pub subrequests: u64,
    /// lines that are not valid JSON, but were read all the same
    pub faults: FaultCounts,
    /// lines of domains or times that were not requested
    pub left_out: u64,
    /// by group, and in it by order
    pub orders: Vec<Orders>,
    /// by order, requests of groups above the limit
    pub other_orders: [Cell; ORDERS.len()],
    /// requests whose order is 0, which NGINX does not write
    pub zero_orders: u64,
    /// by cache status
    pub statuses: Vec<(Box<[u8]>, Cell)>,
    /// requests of statuses above the limit
    pub other_statuses: Cell,
    /// by size
    pub sizes: [Cell; SIZES.len()],
    /// whether a size is that of the body, because the line had no other
    pub has_body_sizes: bool,
    /// by domain
    pub domains: HashMap<Vec<u8>, Ratio>,
    /// requests of domains above the limit
    pub other_domains: Ratio,
    /// by value of the variable of `--by`
    pub values: HashMap<Vec<u8>, SmallCell>,
    /// requests of values above the limit
    pub other_values: SmallCell,
    /// the variables, `$request` or `$request_uri`, from which values were taken
    pub derived: Set,
    /// lines whose `$request_id` a line shortly before has as well
    pub repeated: Repeated,
}

/// How many lines have a fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultCounts {
    /// escapes that JSON does not have
    pub escapes: u64,
    /// values without quotes
    pub values: u64,
    /// tabs and the like in values
    pub controls: u64,
    /// commas after the last member
    pub last_commas: u64,
    /// commas at the end
    pub commas: u64,
}

impl FaultCounts {
    /// Adds the faults of a line.
    pub fn add(&mut self, faults: Faults) {
        self.escapes += u64::from(faults.escapes);
        self.values += u64::from(faults.values);
        self.controls += u64::from(faults.controls);
        self.last_commas += u64::from(faults.last_commas);
        self.commas += u64::from(faults.commas);
    }
}

/// A group of the first figure.
pub struct Orders {
    /// whose requests; see [`group`]
    pub group: Box<[u8]>,
    /// whether the TLS session is one of an earlier connection
    pub is_resumed: bool,
    /// by order
    pub cells: [Cell; ORDERS.len()],
}

impl FactorSums {
    /// Adds a request.
    pub fn record(&mut self, record: &Record<'_>, cpu_ns: u64, shared: &SharedNames) {
        self.requests += 1;
        self.cpu_ns = self.cpu_ns.saturating_add(cpu_ns);
        self.repeated.count(record);
        if shared.is_by
            && let Some((value, source)) = record.by(shared.part)
        {
            source.into_iter().for_each(|source| self.derived.insert(source));
            self.value(&shared.name(value), shared).record(cpu_ns);
        }
        if let Some(order) = record.order {
            let is_resumed = record.fields.get(Field::Session) == Some(b"r");
            let cells = self.orders(group(record), is_resumed, shared);
            match order.checked_sub(1) {
                Some(at) => {
                    cells.get_mut(at.min(3) as usize).into_iter().for_each(|cell| cell.record(cpu_ns))
                }
                None => self.zero_orders += 1,
            }
        }
        if record.fields.has(Field::Cache) {
            self.status(record.fields.get(Field::Cache).unwrap_or(NO_CACHE), shared).record(cpu_ns);
        }
        let Some(bytes) = record.bytes else { return };
        self.has_body_sizes |= record.fields.get(Field::Bytes).is_none();
        if let Some(cell) = self.sizes.get_mut(size_class(bytes)) {
            cell.record(cpu_ns);
        }
        if let Some(domain) = record.domain() {
            self.domain(&shared.name(domain), shared).record(cpu_ns, bytes);
        }
    }

    fn orders(&mut self, group: &[u8], is_resumed: bool, shared: &SharedNames) -> &mut [Cell; ORDERS.len()] {
        let group = &*shared.name(group);
        let found = self.orders.iter().position(|row| *row.group == *group && row.is_resumed == is_resumed);
        if found.is_none() && shared.groups.admit(group) {
            self.orders.push(Orders { group: group.into(), is_resumed, cells: Default::default() });
        } else if found.is_none() {
            return &mut self.other_orders;
        }
        let last = self.orders.len().saturating_sub(1);
        match self.orders.get_mut(found.unwrap_or(last)) {
            Some(row) => &mut row.cells,
            None => &mut self.other_orders,
        }
    }

    fn status(&mut self, status: &[u8], shared: &SharedNames) -> &mut Cell {
        let status = &*shared.name(status);
        let found = self.statuses.iter().position(|(name, _)| **name == *status);
        if found.is_none() && shared.statuses.admit(status) {
            self.statuses.push((status.into(), Cell::default()));
        } else if found.is_none() {
            return &mut self.other_statuses;
        }
        let last = self.statuses.len().saturating_sub(1);
        match self.statuses.get_mut(found.unwrap_or(last)) {
            Some((_, cell)) => cell,
            None => &mut self.other_statuses,
        }
    }

    fn domain(&mut self, domain: &[u8], shared: &SharedNames) -> &mut Ratio {
        match self.domains.entry_ref(domain) {
            EntryRef::Occupied(entry) => entry.into_mut(),
            EntryRef::Vacant(entry) if shared.domains.admit(domain) => entry.insert(Ratio::default()),
            EntryRef::Vacant(_) => &mut self.other_domains,
        }
    }

    fn value(&mut self, value: &[u8], shared: &SharedNames) -> &mut SmallCell {
        match self.values.entry_ref(value) {
            EntryRef::Occupied(entry) => entry.into_mut(),
            EntryRef::Vacant(entry) if shared.values.admit(value) => entry.insert(SmallCell::default()),
            EntryRef::Vacant(_) => &mut self.other_values,
        }
    }

    /// Adds the sums of another thread.
    pub fn add(&mut self, other: Self, shared: &SharedNames) {
        self.requests += other.requests;
        self.cpu_ns = self.cpu_ns.saturating_add(other.cpu_ns);
        self.without_cpu += other.without_cpu;
        self.left_out += other.left_out;
        self.traffic_log += other.traffic_log;
        self.has_combined |= other.has_combined;
        self.has_host |= other.has_host;
        self.without_time += other.without_time;
        self.subrequests += other.subrequests;
        self.faults.escapes += other.faults.escapes;
        self.faults.values += other.faults.values;
        self.faults.controls += other.faults.controls;
        self.faults.last_commas += other.faults.last_commas;
        self.faults.commas += other.faults.commas;
        self.has_body_sizes |= other.has_body_sizes;
        for row in other.orders {
            let mine = self.orders(&row.group, row.is_resumed, shared);
            mine.iter_mut().zip(&row.cells).for_each(|(mine, cell)| mine.add(cell));
        }
        self.other_orders.iter_mut().zip(&other.other_orders).for_each(|(mine, cell)| mine.add(cell));
        self.zero_orders += other.zero_orders;
        self.other_statuses.add(&other.other_statuses);
        for (status, cell) in other.statuses {
            self.status(&status, shared).add(&cell);
        }
        self.sizes.iter_mut().zip(&other.sizes).for_each(|(mine, cell)| mine.add(cell));
        for (domain, ratio) in other.domains {
            self.domain(&domain, shared).add(&ratio);
        }
        self.other_domains.add(&other.other_domains);
        for (value, cell) in other.values {
            self.value(&value, shared).add(&cell);
        }
        self.other_values.add(&other.other_values);
        other.derived.iter().for_each(|field| self.derived.insert(field));
        self.repeated.count += other.repeated.count;
    }
}

/// The place in [`SIZES`] of a response. A bound belongs to what is below it.
fn size_class(bytes: u64) -> usize {
    let bounds = (0..SIZES.len() - 1).map(|at| 1024u64 << (2 * at));
    bounds.take_while(|bound| bytes > *bound).count()
}

#[cfg(test)]
mod tests {
    use super::super::shared::{MAX_GROUPS, MAX_STATUSES};
    use super::*;

    fn record<'a>(fields: &[(Field, &'a str)]) -> Record<'a> {
        let mut record = Record::default();
        fields.iter().for_each(|(field, value)| record.fields.set(*field, value.as_bytes()));
        record.read_numbers().unwrap();
        record
    }

    fn group_of(fields: &[(Field, &'static str)]) -> &'static str {
        std::str::from_utf8(group(&record(fields))).unwrap()
    }

    #[test]
    fn the_group_is_the_kind_of_key_where_the_line_tells_it() {
        use Field::{Cipher, Protocol, Split, TlsKey};
        assert_eq!(group_of(&[]), "");
        assert_eq!(group_of(&[(TlsKey, "RSA"), (Protocol, "TLSv1.3")]), "RSA");
        assert_eq!(group_of(&[(TlsKey, "-"), (Protocol, "TLSv1.3")]), "TLS");
        assert_eq!(group_of(&[(TlsKey, "-"), (Protocol, "-")]), "no TLS");
        assert_eq!(group_of(&[(TlsKey, "-")]), "-");
        assert_eq!(group_of(&[(Split, "edge-1"), (TlsKey, "RSA")]), "edge-1");
        assert_eq!(group_of(&[(Split, "-"), (Protocol, "TLSv1.3")]), "-");
        assert_eq!(group_of(&[(Cipher, "-")]), "no TLS");
        for (cipher, key) in [
            ("ECDHE-RSA-AES128-GCM-SHA256", "RSA"),
            ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDSA"),
            ("AES128-SHA", "RSA"),
            ("TLS_AES_256_GCM_SHA384", "TLS"),
            ("ECDHE-PSK-AES128-CBC-SHA", "TLS"),
        ] {
            assert_eq!(group_of(&[(Cipher, cipher)]), key, "{cipher}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_modules_status() {
        for (bytes, name) in
            [(0, "1k"), (1024, "1k"), (1025, "4k"), (4096, "4k"), (1 << 20, "1m"), ((1 << 26) + 1, "inf")]
        {
            assert_eq!(SIZES[size_class(bytes)], name, "{bytes}");
        }
        assert_eq!(SIZES[size_class(u64::MAX)], "inf");
    }

    #[test]
    fn a_domain_is_exact_or_among_the_others_in_whichever_thread() {
        let shared = SharedNames::new(2, 2, None, true);
        let [mut one, mut two] = [FactorSums::default(), FactorSums::default()];
        for (tally, hosts) in [(&mut one, ["a", "b", "c", "a"]), (&mut two, ["b", "c", "d", "a"])] {
            for host in hosts {
                let line = [(Field::Host, host), (Field::Bytes, "100"), (Field::CpuNs, "7")];
                tally.record(&record(&line), 7, &shared);
            }
        }
        one.add(two, &shared);
        let requests = |host: &[u8]| one.domains.get(host).map(|ratio| ratio.requests);
        assert_eq!([requests(b"a"), requests(b"b"), requests(b"c")], [Some(3), Some(2), None]);
        assert_eq!((one.other_domains.requests, one.other_domains.bytes, one.requests), (3, 300, 8));
    }

    #[test]
    fn groups_and_statuses_are_bounded() {
        let shared = SharedNames::new(1, 1, None, true);
        let mut tally = FactorSums::default();
        for at in 0..1000 {
            let value = at.to_string();
            let line = [(Field::Split, value.as_str()), (Field::Order, "2"), (Field::Cache, &value)];
            tally.record(&record(&line), 1, &shared);
        }
        assert_eq!((tally.orders.len(), tally.statuses.len()), (MAX_GROUPS, MAX_STATUSES));
        assert_eq!(tally.other_orders[1].requests, 1000 - MAX_GROUPS as u64);
        assert_eq!(tally.other_statuses.requests, 1000 - MAX_STATUSES as u64);
    }

    #[test]
    fn what_a_line_does_not_tell_is_not_counted_in_that_figure() {
        let shared = SharedNames::new(10, 10, None, true);
        let mut tally = FactorSums::default();
        tally.record(&record(&[(Field::Order, "9")]), 5, &shared);
        tally.record(
            &record(&[(Field::Cache, "-"), (Field::BodyBytes, "5000"), (Field::Host, "a")]),
            5,
            &shared,
        );
        assert_eq!((tally.requests, tally.cpu_ns), (2, 10));
        assert_eq!(tally.orders.iter().map(|row| row.cells[3].requests).collect::<Vec<_>>(), [1]);
        assert_eq!(tally.statuses.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), [b"NONE"]);
        assert_eq!((tally.sizes[2].requests, tally.has_body_sizes, tally.domains.len()), (1, true, 1));
    }
}
