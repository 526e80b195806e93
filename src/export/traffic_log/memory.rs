//! The ledger of each log, in its own shared memory.

use std::rc::Rc;

use accounting::table::{self, Table};
use accounting::traffic::{self, Ledger};
use nginx_sys::NGX_LOG_EMERG;

use crate::config::list::List;
use crate::config::log::Log;
use crate::config::main::{MainConf, with_running};
use crate::config::zone::Zone;
use crate::export::traffic_log::lock;
use crate::export::traffic_log::log::{has_table, kept, ledger, memory, name};
use crate::nginx::conf::{Conf, Failed};
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::shared_memory::{self, Init, SharedMemory, with_slab_pool};
use crate::nginx::time::monotonic_ms;
use crate::persist::memory::Memory;
use crate::persist::origin::source;

/// The prefix in the names of all logs' memory.
const MEMORY: &[u8] = b"_log:";

/// A log that requests memory.
struct Wanted {
    log: Rc<Log>,
    /// all logs of its configuration
    logs: Rc<List<Rc<Log>>>,
}

impl Wanted {
    fn logs(&self) -> impl Iterator<Item = &Log> {
        self.logs.as_slice().iter().map(Rc::as_ref)
    }
}

/// Requests the memory of each log from NGINX. Must be called when all zones are known, so that the memory of logs
/// comes after theirs.
///
/// # Errors
/// There is no memory.
pub fn add(cf: &Conf<'_>, main: &MainConf) -> Result<(), Failed> {
    for log in main.list_of_logs().as_slice() {
        let name = [b"request_cpu", &memory_name(log)[..]].concat();
        let bytes = with_slab_pool(traffic::region_bytes(log.zone().ok_or(Failed)?.size_bytes));
        let wanted = Rc::new(Wanted { log: log.clone(), logs: main.list_of_logs().clone() });
        shared_memory::add::<_, Ledgers>(cf, &name, bytes, &wanted)?.ok_or(Failed)?;
    }
    Ok(())
}

fn memory_name(log: &Log) -> Vec<u8> {
    [MEMORY, format!("{:016x}", name(log)).as_bytes()].concat()
}

/// Creates the ledgers.
struct Ledgers;

impl Init<Wanted> for Ledgers {
    fn init(shm: SharedMemory<'_>, wanted: &Wanted, before: Option<&Wanted>) -> Result<(), Failed> {
        let log = &*wanted.log;
        let (kept, table) = (kept(log).ok_or(Failed)?, log.zone().and_then(Zone::table).ok_or(Failed)?);
        let continues = before
            .map(|before| &*before.log)
            .filter(|before| has_table(before, &table))
            .and_then(|before| Some((ledger(before)?, memory(before).cloned())))
            .or_else(|| continued_here(wanted, &table))
            .or_else(|| left(wanted, &table));
        kept.is_new.set(continues.is_none());
        let made = continues.map_or_else(|| make_ledger(shm, wanted, &table), Ok);
        let (ledger, memory) = made.map_err(|reason| {
            ngx_log_error!(NGX_LOG_EMERG, shm.log(), "{reason} in request_cpu_log \"{}\"", log.path());
            Failed
        })?;
        // `ngx_init_cycle` calls this once for each log
        let _ = kept.table.set(table);
        let _ = kept.ledger.set(ledger);
        if let Some(memory) = memory {
            let _ = kept.memory.set(memory);
        }
        Ok(())
    }
}

/// The ledger of the running configuration that this log continues.
fn continued_here(wanted: &Wanted, table: &Table) -> Option<(Ledger, Option<Memory>)> {
    with_running(|main| {
        let old = main?.logs().filter(|old| has_table(old, table));
        let ledgers: Vec<Ledger> = old.clone().filter_map(ledger).collect();
        let found = continued(wanted, &ledgers)?;
        let old = { old }.find(|old| ledger(old).is_some_and(|its| its.is(&found)))?;
        Some((found, memory(old).cloned()))
    })
}

/// Selects the ledger of this log among ledgers of the same accounts. If there is none, selects a ledger without a
/// log: the log's file may have been renamed in the configuration.
fn continued(wanted: &Wanted, ledgers: &[Ledger]) -> Option<Ledger> {
    let is_taken = |of: &Ledger| {
        let is = |log: &Log| name(log) == of.name() || ledger(log).is_some_and(|its| its.is(of));
        wanted.logs().any(is)
    };
    let same = ledgers.iter().find(|ledger| ledger.name() == name(&wanted.log));
    same.or_else(|| ledgers.iter().find(|ledger| !is_taken(ledger))).copied()
}

/// The ledgers of this table that the previous binary, or another copy of this module, has left.
fn all_left(table: &Table) -> Vec<(Ledger, Memory)> {
    let left = source().map(|source| Memory::left(MEMORY, source)).unwrap_or_default();
    let open = |memory: Memory| {
        // SAFETY: the bytes are mapped, start at a page, and stay mapped as long as `memory` exists.
        let ledger = unsafe { Ledger::open(memory.base(), memory.bytes(), table) }.ok()?;
        Some((ledger, memory))
    };
    left.into_iter().filter_map(open).collect()
}

/// The ledger that this log continues, from the previous binary or from another copy of this module.
fn left(wanted: &Wanted, table: &Table) -> Option<(Ledger, Option<Memory>)> {
    let left = all_left(table);
    let taken: Vec<u64> = wanted.logs().filter_map(|log| Some(ledger(log)?.name())).collect();
    // compared by name, since the same memory can be mapped twice
    let ledgers: Vec<Ledger> =
        left.iter().map(|(ledger, _)| *ledger).filter(|ledger| !taken.contains(&ledger.name())).collect();
    let ledger = continued(wanted, &ledgers)?;
    let (ledger, memory) = left.into_iter().find(|(its, _)| its.is(&ledger))?;
    Some((ledger, Some(memory)))
}

/// A number that no log of these accounts has, in this configuration or in the running one. Accounts keep the peaks of
/// each log under its number. A ledger that this log does not continue may belong to another log of this configuration
/// that has not got it yet, so the numbers of left ledgers are excluded too.
fn free_number(wanted: &Wanted, table: &Table) -> usize {
    let number = |log: &Log| ledger(log).filter(|_| has_table(log, table)).map(|its| its.log());
    let mut taken: Vec<usize> = wanted.logs().filter_map(number).collect();
    with_running(|main| taken.extend(main.into_iter().flat_map(MainConf::logs).filter_map(number)));
    taken.extend(all_left(table).iter().map(|(its, _)| its.log()));
    // a zone has no more logs than there are numbers
    (0..traffic::LOGS).find(|number| !taken.contains(number)).unwrap_or(0)
}

/// A new ledger. All usage that the accounts have counted until now is regarded as written.
fn make_ledger(
    shm: SharedMemory<'_>,
    wanted: &Wanted,
    table: &Table,
) -> Result<(Ledger, Option<Memory>), table::Error> {
    let (log, too_small) = (&*wanted.log, table::Error::TooSmall);
    let bytes = traffic::region_bytes(log.zone().ok_or(too_small)?.size_bytes);
    let memory = Memory::create_or_log(&memory_name(log), bytes, shm.log());
    let base = match &memory {
        Some(memory) => memory.base(),
        None => shm.take_all_zeroed(bytes).ok_or(too_small)?,
    };
    // SAFETY: the memory is new, so it is all zero, and no other code uses or knows it. It starts at a page, and stays
    // mapped as long as the log.
    let ledger = unsafe {
        let ledger = Ledger::create(base, bytes, table, free_number(wanted, table), monotonic_ms())?;
        lock::of(&ledger).make();
        ledger
    };
    ledger.set_name(name(log));
    Ok((ledger, memory))
}
