//! A table of accounts for each zone, in shared memory.

use accounting::table::{self, Table, TableBefore};
use nginx_sys::{NGX_LOG_EMERG, NGX_LOG_NOTICE, ngx_log_t, ngx_random};
use ngx::ngx_log_error;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::config::main::with_running;
use crate::config::zone::Zone;
use crate::nginx::conf::Failed;
use crate::nginx::shared_memory::{Init, SharedMemory};
use crate::persist::kept::{kept, memory};
use crate::persist::memory::Memory;
use crate::persist::origin::{goes_on, source};
use crate::persist::state::file::is_of;
use crate::persist::state::load::{check, load, log_restored};

/// Makes the tables.
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

/// The zone has this table.
fn go_on(zone: &Zone, table: Table, memory: Option<Memory>) {
    // `ngx_init_cycle` calls once for each zone
    let _ = zone.table.set(table);
    if let (Some(kept), Some(memory)) = (kept(zone), memory) {
        let _ = kept.memory.set(memory);
    }
}

/// A table for a zone whose memory NGINX has just made: the one that others have left us, or a new one with
/// what the accounts had before, as far as that is known.
///
/// A table that others than our own workers may go on with lies outside of the zone that NGINX made; the pages
/// there are not touched then, and take no memory. The zone keeps name and size for NGINX's own checks.
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
    // SAFETY: memory that nobody else uses, at the start of a page, and that stays as long as the zone.
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

/// What others have left us of a zone.
enum Left {
    Table(Table),
    /// Of the release before: its workers go on counting there, and what they count after this is not in the
    /// new table.
    Before(TableBefore),
}

impl Left {
    /// What is in this memory, for a zone. It is kept as long as it is used.
    fn open(memory: &Memory, zone: &Zone) -> Result<Left, table::Error> {
        let (base, bytes, key_text) = (memory.base(), memory.bytes(), zone.key_text.as_bytes());
        // SAFETY: as many bytes are mapped, at the start of a page, as long as `memory` is there. All callers keep it
        // with what they have from here.
        unsafe {
            match Table::open(base, bytes, key_text).map(Left::Table) {
                Err(table::Error::Foreign) => Table::open_before(base, bytes, key_text).map(Left::Before),
                result => result,
            }
        }
    }
}

/// The table of this zone that the binary before, or another copy of this module, has left us, maybe of another
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

/// As [`left`], of a zone that had another name and the same file. Its accounts are copied, since memory is
/// known by the name.
fn left_by_file(zone: &Zone) -> Option<(Table, Option<Memory>)> {
    let path = zone.state_path()?;
    Memory::left(b":", source()?).into_iter().find_map(|memory| {
        let Left::Table(table) = Left::open(&memory, zone).ok()? else { return None };
        is_of(path, &table).then_some((table, Some(memory)))
    })
}

/// The accounts of this zone in the configuration that is running: those of the zone with this name, or, if it
/// has got another name, of the zone with this state file.
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

/// Two numbers that clients cannot know.
fn seed() -> [u64; 2] {
    let mut bytes = [0; 16];
    let filled = getrandom(&mut bytes[..], GetRandomFlags::NONBLOCK);
    if filled == Ok(bytes.len()) {
        let both = u128::from_ne_bytes(bytes);
        return [both as u64, (both >> 64) as u64];
    }
    // early in a boot the kernel may have none to give
    core::array::from_fn(|_| ngx_random() as u64 ^ u64::from(std::process::id()) << 32)
}
