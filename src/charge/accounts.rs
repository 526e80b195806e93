//! The accounts of requests, as one worker uses them.

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

/// A full zone is warned of once in so many milliseconds.
const WARN_MS: u64 = 60_000;

/// A zone, as this worker uses it.
struct Zone {
    table: Table,
    spare: Spare,
    pending: PendingCharges,
    in_flight: InFlight,
    /// monotonic milliseconds before which no further warning of a full zone is logged
    quiet_until_ms: u64,
}

/// All zones, by their place in the configuration.
pub struct Zones {
    zones: Vec<Zone>,
    /// what was given to them, and what was to be given and has no account
    cpu: CountedCpu,
}

impl Zones {
    /// For `process`, which calls. Tables are those of all zones, in the order of the configuration; if one is
    /// missing, none can be told from another one by its place.
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

    /// Whether no request can be counted.
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

    /// Adds to accounts.
    #[inline]
    pub fn add(&mut self, now_ns: u64, accounts: &AccountSet, usage: &Usage) {
        self.cpu.add(usage.cpu_ns, !accounts.is_empty());
        self.each(accounts, |zone, slot, share| zone.pending.add(&zone.table, now_ns, slot, share, usage));
    }

    /// Work after a request was logged, or of its connection: its accounts pay, the request does not.
    #[inline]
    pub fn charge(&mut self, now_ns: u64, accounts: &AccountSet, ns: u64) {
        if ns != 0 {
            self.cpu.add(ns, !accounts.is_empty());
            self.each(accounts, |zone, slot, share| {
                zone.pending.charge(&zone.table, now_ns, slot, share, ns);
            });
        }
    }

    /// A request has ended.
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

    /// The connection of a request has made a TLS handshake.
    pub fn count_handshake(&mut self, accounts: &AccountSet, handshake: &Handshake) {
        self.each(accounts, |zone, slot, _| zone.table.account(slot).count_handshake(handshake));
    }

    /// Writes the CPU that is in no account.
    #[inline]
    pub fn show_uncounted(&self, totals: &mut WorkerTotals) {
        self.cpu.show(totals);
    }

    /// The process ends: CPU of requests that are open and have no account is in none.
    pub fn close_uncounted(&mut self, totals: &WorkerTotals) {
        self.cpu.close(totals);
    }

    /// What has been added becomes visible to others.
    #[inline]
    pub fn flush(&mut self, now_ns: u64) {
        for zone in &mut self.zones {
            zone.pending.flush(&zone.table, now_ns);
        }
    }

    /// A request is in flight from the end of what there is of it so far.
    pub fn enter_flight(&mut self, accounts: &AccountSet, so_far: &Span) {
        self.each(accounts, |zone, slot, _| {
            let held = zone.in_flight.enter(&zone.table, slot, so_far);
            zone.pending.hold(&zone.table, so_far.to_ns, slot, &held);
        });
    }

    /// A request is not in flight any more, that held so many bytes.
    pub fn leave_flight(&mut self, now_ns: u64, accounts: &AccountSet, bytes: u64) {
        self.each(accounts, |zone, slot, _| {
            let held = zone.in_flight.leave(&zone.table, slot, now_ns, bytes);
            zone.pending.hold(&zone.table, now_ns, slot, &held);
        });
    }

    /// A request in flight holds another number of bytes from now on; `since_ns`: when the one before was known.
    /// Where it has grown, it is taken to have done so evenly.
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

    /// Time has passed for requests in flight.
    pub fn pass(&mut self, now_ns: u64) {
        for Zone { table, pending, in_flight, .. } in &mut self.zones {
            in_flight.pass(table, now_ns, |slot, held| pending.hold(table, now_ns, slot, held));
        }
    }

    /// Takes note of workers that were found dead, and stays where it can be found itself.
    pub fn follow(&mut self, now_ns: u64) {
        for zone in &mut self.zones {
            zone.in_flight.stay_registered(&zone.table, now_ns);
        }
    }

    /// Looks for workers that were killed, in each table where nobody else has looked in this second.
    pub fn watch(&self, now_ms: u64, mut is_alive: impl FnMut(ProcessId) -> bool) {
        for zone in self.zones.iter().filter(|zone| zone.table.claim_look(now_ms)) {
            zone.table.reap(now_ms, &mut is_alive);
        }
    }

    /// Looks for workers that were killed in each table.
    pub fn reap(&self, now_ms: u64, is_alive: impl Fn(ProcessId) -> bool) {
        self.zones.iter().for_each(|zone| {
            zone.table.reap(now_ms, &is_alive);
        });
    }

    /// How many tables have no room for one more worker with requests in flight.
    pub fn unregistered(&self) -> usize {
        self.zones.iter().filter(|zone| !zone.in_flight.is_registered()).count()
    }

    /// Nothing is in flight any more.
    pub fn release(&mut self) {
        for zone in &mut self.zones {
            zone.in_flight.release(&zone.table);
        }
    }

    /// Checks a request of this account against a limit; a refusal is counted.
    /// `is_configured` tells which limits the zone has.
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

    /// What was charged before to the bucket of an account's limit is charged as use now, or was not used.
    pub fn give_back(&mut self, now_ns: u64, id: AccountId, bucket: u8, ns: u64) {
        if let Some(zone) = self.zones.get_mut(id.zone()) {
            zone.pending.give_back(&zone.table, now_ns, id.slot(), bucket, ns);
        }
    }

    /// Marks accounts for work of `ns` nanoseconds that no limit could refuse: of a request that was not checked, or
    /// of a connection beside its requests. Where that would be beyond a limit, it is as that of a refused request,
    /// by `beyond` for each zone. So such work uses up a burst at most, and makes no debt.
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

    /// The account of a key. `counts`: once per request.
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
    /// the zone is full, and it is time to say so
    pub warn: bool,
    /// it need not be looked up again
    pub lasting: bool,
}
