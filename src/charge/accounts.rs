//! The accounts of requests, as this worker uses them.

use accounting::account::{Handshake, Usage};
use accounting::account_set::{AccountId, AccountSet};
use accounting::billing::{Held, Memory, Span};
use accounting::in_flight::InFlight;
use accounting::key::MAX_KEY_BYTES;
use accounting::limit::{Limit, LimitId, Share};
use accounting::pending_charges::{Ended, PendingCharges};
use accounting::process::ProcessId;
use accounting::table::{Checked, Slot, Spare, Table};
use accounting::worker_totals::{CountedCpu, WorkerTotals};

use crate::nginx::time::now_ms;

/// The warning about a full zone is logged at most once in this interval, in milliseconds.
const WARN_MS: u64 = 60_000;

/// A zone, as this worker uses it.
struct Zone {
    table: Table,
    spare: Spare,
    pending: PendingCharges,
    in_flight: InFlight,
    /// no further warning about a full zone is logged before this time, in monotonic milliseconds
    quiet_until_ms: u64,
}

/// All zones, by their index in the configuration.
pub struct Zones {
    zones: Vec<Zone>,
    /// CPU that was added to accounts, and CPU that has no account
    cpu: CountedCpu,
}

impl Zones {
    /// Creates the zones for the calling process, `process`. `tables` are the tables of all zones, in the order of the
    /// configuration. If one is missing, the result is `None`: indexes would no longer identify zones.
    pub fn new(tables: impl Iterator<Item = Option<Table>>, process: Option<ProcessId>) -> Option<Self> {
        let zone = |table: Table| Zone {
            table,
            spare: Spare::default(),
            pending: PendingCharges::default(),
            in_flight: InFlight::new(process),
            quiet_until_ms: 0,
        };
        tables
            .map(|table| table.map(zone))
            .collect::<Option<Vec<_>>>()
            .map(|zones| Zones { zones, cpu: CountedCpu::default() })
    }

    /// Whether there is no zone: no request can be counted.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    #[inline]
    fn each(&mut self, accounts: &AccountSet, mut f: impl FnMut(&mut Zone, Slot, Share)) {
        for id in accounts.ids() {
            if let Some(zone) = self.zones.get_mut(id.zone()) {
                f(zone, id.slot(), id.share());
            }
        }
    }

    /// Adds usage to accounts.
    #[inline]
    pub fn add(&mut self, now_ns: u64, accounts: &AccountSet, usage: &Usage) {
        self.cpu.add(usage.cpu_ns, !accounts.is_empty());
        self.each(accounts, |zone, slot, share| zone.pending.add(&zone.table, now_ns, slot, share, usage));
    }

    /// Charges work that came after a request was logged, or work of its connection: the accounts pay for it, the
    /// request does not.
    #[inline]
    pub fn charge(&mut self, now_ns: u64, accounts: &AccountSet, ns: u64) {
        if ns != 0 {
            self.cpu.add(ns, !accounts.is_empty());
            self.each(accounts, |zone, slot, share| {
                zone.pending.charge(&zone.table, now_ns, slot, share, ns);
            });
        }
    }

    /// Adds a request that has ended.
    #[inline]
    pub fn finish(&mut self, now_ns: u64, accounts: &AccountSet, ended: &Ended) {
        self.cpu.add(ended.usage.cpu_ns, !accounts.is_empty());
        if let [id] = accounts.ids() {
            if let Some(zone) = self.zones.get_mut(id.zone()) {
                zone.pending.finish(&zone.table, now_ns, id.slot(), id.share(), ended);
            }
        } else {
            self.finish_in_each(now_ns, accounts, ended);
        }
    }

    #[inline(never)]
    fn finish_in_each(&mut self, now_ns: u64, accounts: &AccountSet, ended: &Ended) {
        self.each(accounts, |zone, slot, share| {
            zone.pending.finish(&zone.table, now_ns, slot, share, ended);
        });
    }

    /// Counts the TLS handshake of a request's connection.
    pub fn count_handshake(&mut self, accounts: &AccountSet, handshake: &Handshake) {
        self.each(accounts, |zone, slot, _| zone.table.account(slot).count_handshake(handshake));
    }

    /// Writes the CPU that is in no account to the worker totals.
    #[inline]
    pub fn show_uncounted(&self, totals: &mut WorkerTotals) {
        self.cpu.show(totals);
    }

    /// Called when the process ends: CPU that open requests still have is counted as CPU in no account.
    pub fn close_uncounted(&mut self, totals: &WorkerTotals) {
        self.cpu.close(totals);
    }

    /// Adds pending charges to shared memory, where other processes see them.
    #[inline]
    pub fn flush(&mut self, now_ns: u64) {
        for zone in &mut self.zones {
            zone.pending.flush(&zone.table, now_ns);
        }
    }

    /// A request enters flight, at the end of `so_far`.
    pub fn enter_flight(&mut self, accounts: &AccountSet, so_far: &Span) {
        self.each(accounts, |zone, slot, _| {
            let held = zone.in_flight.enter(&zone.table, slot, so_far);
            zone.pending.hold(&zone.table, so_far.to_ns, slot, &held);
        });
    }

    /// A request leaves flight. It held `bytes` until now.
    pub fn leave_flight(&mut self, now_ns: u64, accounts: &AccountSet, bytes: u64) {
        self.each(accounts, |zone, slot, _| {
            let held = zone.in_flight.leave(&zone.table, slot, now_ns, bytes);
            zone.pending.hold(&zone.table, now_ns, slot, &held);
        });
    }

    /// The memory of a request in flight changes from `from_bytes` to `to_bytes`. `from_bytes` was read at `since_ns`.
    /// If the memory has grown, an even growth since then is assumed.
    pub fn resize(
        &mut self,
        now_ns: u64,
        accounts: &AccountSet,
        since_ns: u64,
        from_bytes: u64,
        to_bytes: u64,
    ) {
        let more_bytes = to_bytes.saturating_sub(from_bytes);
        let memory = Memory::new(more_bytes, now_ns.saturating_sub(since_ns)).half();
        self.each(accounts, |zone, slot, _| {
            let held = zone.in_flight.resize(slot, now_ns, from_bytes, to_bytes);
            let held = held.plus(&Held { memory, ..Held::default() });
            zone.pending.hold(&zone.table, now_ns, slot, &held);
        });
    }

    /// Adds the time that has passed for requests in flight.
    pub fn pass(&mut self, now_ns: u64) {
        for Zone { table, pending, in_flight, .. } in &mut self.zones {
            in_flight.pass(table, now_ns, |slot, held| pending.hold(table, now_ns, slot, held));
        }
    }

    /// Handles the death of other workers, and registers this worker again if its slot was lost.
    pub fn follow(&mut self, now_ns: u64) {
        for zone in &mut self.zones {
            zone.in_flight.stay_registered(&zone.table, now_ns);
        }
    }

    /// Looks for killed workers in each table that no other worker has checked in this second.
    pub fn watch(&self, now_ms: u64, mut is_alive: impl FnMut(ProcessId) -> bool) {
        for zone in self.zones.iter().filter(|zone| zone.table.claim_look(now_ms)) {
            zone.table.reap(now_ms, &mut is_alive);
        }
    }

    /// Looks for killed workers in every table.
    pub fn reap(&self, now_ms: u64, is_alive: impl Fn(ProcessId) -> bool) {
        self.zones.iter().for_each(|zone| {
            zone.table.reap(now_ms, &is_alive);
        });
    }

    /// Number of tables that had no slot left for this worker: its requests are not shown in flight there.
    pub fn unregistered(&self) -> usize {
        self.zones.iter().filter(|zone| !zone.in_flight.is_registered()).count()
    }

    /// Releases the slots of this worker: none of its requests is in flight any more.
    pub fn release(&mut self) {
        for zone in &mut self.zones {
            zone.in_flight.release(&zone.table);
        }
    }

    /// Checks a request of this account against a limit, and counts a refusal. `is_configured` tells which limits the
    /// zone has.
    pub fn check(
        &mut self,
        now_ms: u64,
        id: AccountId,
        limit: &Limit,
        is_configured: impl Fn(LimitId) -> bool,
        dry_run: bool,
    ) -> Option<Checked> {
        let Zone { table, spare, pending, .. } = self.zones.get_mut(id.zone())?;
        let pending_ns = |bucket| pending.pending_ns(id.slot(), bucket);
        let checked = table.check(id.slot(), now_ms, limit, pending_ns, is_configured, spare);
        if checked.result.is_err() {
            table.account(id.slot()).count_refused(dry_run);
        }
        Some(checked)
    }

    /// Takes `ns` off the advance charge in the bucket of an account's limit: this CPU is charged as usage now, or was
    /// not used.
    pub fn give_back(&mut self, now_ns: u64, id: AccountId, bucket: u8, ns: u64) {
        if let Some(zone) = self.zones.get_mut(id.zone()) {
            zone.pending.give_back(&zone.table, now_ns, id.slot(), bucket, ns);
        }
    }

    /// Marks accounts for `ns` nanoseconds of work that no limit could refuse: work of a request that was not checked,
    /// or work of a connection beside its requests. Work beyond a limit gets the share that `beyond` returns for the
    /// zone, as the work of a refused request does. So unchecked work uses up a burst at most, and adds no debt.
    pub fn mark_unchecked(
        &self,
        now_ms: u64,
        accounts: &mut AccountSet,
        ns: u64,
        beyond: impl Fn(usize) -> Share,
    ) {
        let ns = i64::try_from(ns).unwrap_or(i64::MAX);
        accounts.set_shares(|id| {
            let is_in_debt = |zone: &Zone| {
                let pending_ns = |bucket| zone.pending.pending_ns(id.slot(), bucket).saturating_add(ns);
                zone.table.is_in_debt(id.slot(), now_ms, pending_ns)
            };
            if self.zones.get(id.zone()).is_some_and(is_in_debt) { beyond(id.zone()) } else { id.share() }
        });
    }

    /// Finds or creates the account of a key. `counts` is set once per request: overflowed and cut keys are counted
    /// then.
    pub fn find(&mut self, index: usize, key: &[u8], counts: bool) -> Option<Found> {
        let zone_id = u16::try_from(index).ok()?;
        let zone = self.zones.get_mut(index)?;
        let found = zone.table.find_or_insert(key, &mut zone.spare);
        let is_cut = key.len() > MAX_KEY_BYTES;
        if counts && found.overflowed {
            zone.table.count_overflowed();
        }
        if counts && is_cut {
            zone.table.count_cut();
        }
        let warn = found.overflowed && now_ms() >= zone.quiet_until_ms;
        if warn {
            zone.quiet_until_ms = now_ms() + WARN_MS;
        }
        let id = AccountId::new(zone_id, Share::Used, found.slot);
        Some(Found { id, warn, lasting: !found.overflowed && !is_cut })
    }
}

/// The account of a key.
pub struct Found {
    pub id: AccountId,
    /// the zone is full, and the warning is due
    pub warn: bool,
    /// the account stays the same: it need not be looked up again
    pub lasting: bool,
}
