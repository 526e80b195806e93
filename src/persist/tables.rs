//! A table of accounts for each zone, in shared memory.

use accounting::table::{self, Table, TableBefore};
use nginx_sys::{NGX_LOG_EMERG, NGX_LOG_NOTICE, ngx_log_t, ngx_random};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::config::main::with_running;
use crate::config::zone::Zone;
use crate::nginx::conf::Failed;
use crate::nginx::error_log::ngx_log_error;
use crate::nginx::shared_memory::{Init, SharedMemory};
use crate::persist::kept::{kept, memory};
use crate::persist::memory::Memory;
use crate::persist::origin::{goes_on, source};
use crate::persist::state::file::is_of;
use crate::persist::state::load::{check, load, log_restored};

/// Creates the tables.
pub struct Tables;

impl Init<Zone> for Tables {
    fn init(shm: SharedMemory<'_>, zone: &Zone, before: Option<&Zone>) -> Result<(), Failed> {
        let log = shm.log();
        match before {
            Some(before) if before.key_text != zone.key_text => {
                ngx_log_error!(
                    NGX_LOG_EMERG,
                    log,
                    "request_cpu_zone \"{}\" uses the \"{}\" key while previously it used the \"{}\" key",
                    zone.name,
                    zone.key_text,
                    before.key_text
                );
                Err(Failed)
            }
            Some(before) => {
                go_on(zone, before.table().ok_or(Failed)?, memory(before).cloned());
                check(zone, Some(before), log)
            }
            None => make_table(shm, zone),
        }
    }
}

/// Sets the table of the zone.
fn go_on(zone: &Zone, table: Table, memory: Option<Memory>) {
    // `ngx_init_cycle` calls this once for each zone
    let _ = zone.table.set(table);
    if let (Some(kept), Some(memory)) = (kept(zone), memory) {
        let _ = kept.memory.set(memory);
    }
}

/// Sets a table for a zone whose memory NGINX has just created. This is either a table that was left, or a new one. A
/// new table gets the earlier counters of the accounts, if they are known.
///
/// A table that another master or another copy of this module may continue to use lies outside of the zone that NGINX
/// created. The pages of that zone are then not touched, and take no memory. The zone keeps its name and size for
/// NGINX's own checks.
fn make_table(shm: SharedMemory<'_>, zone: &Zone) -> Result<(), Failed> {
    let log = shm.log();
    let bytes = shm.free_bytes();
    let name = [b":", zone.name.as_bytes()].concat();
    let old = match left(zone, &name, log) {
        Some((Left::Table(table), memory)) if memory.bytes() == bytes => {
            ngx_log_error!(
                NGX_LOG_NOTICE,
                log,
                "request_cpu_zone \"{}\" goes on with the accounts that are in memory",
                zone.name
            );
            go_on(zone, table, Some(memory));
            goes_on();
            return check(zone, None, log);
        }
        Some((left, memory)) => Some((left, Some(memory))),
        None => {
            running(zone).or_else(|| left_by_file(zone)).map(|(table, memory)| (Left::Table(table), memory))
        }
    };
    let memory = Memory::create_or_log(&name, bytes, log);
    let base = memory.as_ref().map(Memory::base).or_else(|| shm.take_all(bytes));
    // SAFETY: no other code uses the memory. It is at the start of a page, and stays mapped as long as the zone.
    let create = |base| unsafe { Table::create(base, bytes, seed(), zone.key_text.as_bytes()) };
    let table = base.ok_or(table::Error::TooSmall).and_then(create).map_err(|reason| {
        ngx_log_error!(NGX_LOG_EMERG, log, "{reason} in request_cpu_zone \"{}\"", zone.name);
        Failed
    })?;
    go_on(zone, table, memory);
    match old {
        Some((old, _memory)) => {
            let restored = match old {
                Left::Table(old) => accounting::state::copy(&old, &table),
                Left::Before(old) => accounting::state::copy_before(&old, &table),
            };
            log_restored(zone, restored, "the zone before", log);
            check(zone, None, log)
        }
        None => load(zone, &table, log),
    }
}

/// The accounts of a zone that were left in memory.
enum Left {
    Table(Table),
    /// A table of the previous release. Its workers continue to count there, and the new table does not contain their
    /// later counts.
    Before(TableBefore),
}

impl Left {
    /// Opens the table of a zone in this memory. The memory must be kept for as long as the table is used.
    fn open(memory: &Memory, zone: &Zone) -> Result<Left, table::Error> {
        let (base, bytes, key_text) = (memory.base(), memory.bytes(), zone.key_text.as_bytes());
        // SAFETY: the bytes are mapped, start at a page, and stay mapped as long as `memory` exists. All callers keep
        // `memory` with the result.
        unsafe {
            match Table::open(base, bytes, key_text).map(Left::Table) {
                Err(table::Error::Foreign) => Table::open_before(base, bytes, key_text).map(Left::Before),
                result => result,
            }
        }
    }
}

/// The table of this zone that the previous binary, or another copy of this module, has left. It may have another
/// size.
fn left(zone: &Zone, name: &[u8], log: *mut ngx_log_t) -> Option<(Left, Memory)> {
    let mut refused = None;
    for memory in Memory::left(name, source()?).into_iter().filter(|memory| memory.is_named(name)) {
        match Left::open(&memory, zone) {
            Ok(left) => return Some((left, memory)),
            Err(error) => refused = Some(error),
        }
    }
    if let Some(error) = refused {
        ngx_log_error!(
            NGX_LOG_NOTICE,
            log,
            "request_cpu_zone \"{}\" does not go on with the accounts that are in memory: {error}",
            zone.name
        );
    }
    None
}

/// As [`left`], for a zone that had another name and the same file. Its accounts are copied, since memory is
/// identified by the zone's name.
fn left_by_file(zone: &Zone) -> Option<(Table, Option<Memory>)> {
    let path = zone.state_path()?;
    Memory::left(b":", source()?).into_iter().find_map(|memory| {
        let Left::Table(table) = Left::open(&memory, zone).ok()? else { return None };
        is_of(path, &table).then_some((table, Some(memory)))
    })
}

/// The accounts of this zone in the running configuration: those of the zone with this name. If there is none, those
/// of the zone with this state file, which had another name.
fn running(zone: &Zone) -> Option<(Table, Option<Memory>)> {
    with_running(|main| {
        let has_file =
            |before: &&Zone| zone.state_path().is_some() && before.state_path() == zone.state_path();
        let zones = main?.zones().filter(|before| before.key_text == zone.key_text);
        let before =
            zones.clone().find(|before| before.name == zone.name).or_else(|| zones.clone().find(has_file))?;
        Some((before.table()?, memory(before).cloned()))
    })
}

/// Two random numbers that clients cannot know.
fn seed() -> [u64; 2] {
    let mut bytes = [0; 16];
    let filled = getrandom(&mut bytes[..], GetRandomFlags::NONBLOCK);
    if filled == Ok(bytes.len()) {
        let both = u128::from_ne_bytes(bytes);
        return [both as u64, (both >> 64) as u64];
    }
    // early in the boot process, the kernel may have no random numbers
    core::array::from_fn(|_| ngx_random() as u64 ^ u64::from(std::process::id()) << 32)
}
