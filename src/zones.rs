//! Shared memory: a table of accounts for each zone, and the worker totals of the workers.

use core::cell::OnceCell;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use accounting::state::Restored;
use accounting::table::{self, Table, TableBefore};
use accounting::workers::{self, Workers};
use nginx_sys::{
    NGX_ERROR, NGX_LOG_EMERG, NGX_LOG_NOTICE, NGX_LOG_WARN, NGX_OK, NGX_PROCESS_MASTER, NGX_PROCESS_SINGLE,
    ngx_conf_t, ngx_cycle_t, ngx_inherited, ngx_int_t, ngx_log_t, ngx_new_binary, ngx_pagesize, ngx_parent,
    ngx_process, ngx_random, ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_alloc, ngx_slab_pool_t,
    ngx_str_t, ngx_uint_t,
};
use ngx::{ngx_log_error, ngx_string};

use crate::conf::{self, MainConf, Stage, Zone, main_conf};
use crate::memory::{self, Memory, Source};
use crate::nginx::cycle::Cycle;
use crate::state::{Failed, Saving, StateFile};
use crate::{module, state, traffic_log};

/// Called by `ngx_init_cycle` when the zone's memory is there. `data` is the zone of the cycle before, if NGINX keeps its
/// memory, which it does when name and size are the same, and this copy of the module had it.
pub unsafe extern "C" fn init_zone(shm: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `request_cpu_zone` has put a `Zone` there, in this cycle and in the one before; both change through cells.
    let (shm, zone, before) = unsafe { (&*shm, &*(*shm).data.cast::<Zone>(), data.cast::<Zone>().as_ref()) };
    let log = shm.shm.log;
    let result = match before {
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
        Some(before) => match before.table() {
            Some(table) => {
                go_on(zone, table, before.memory.get().cloned());
                state::check(zone, Some(before), log)
            }
            None => Err(Failed),
        },
        None => make_table(shm, zone),
    };
    if result.is_ok() { NGX_OK as ngx_int_t } else { NGX_ERROR as ngx_int_t }
}

/// The zone has this table.
fn go_on(zone: &Zone, table: Table, memory: Option<Memory>) {
    // `ngx_init_cycle` calls once for each zone
    let _ = zone.table.set(table);
    if let Some(memory) = memory {
        let _ = zone.memory.set(memory);
    }
}

/// A table for a zone whose memory NGINX has just made: the one that others have left us, or a new one with what the accounts had
/// before, as far as that is known.
///
/// A table that others than our own workers may go on with lies outside of the zone that NGINX made; the pages there are not
/// touched then, and take no memory. The zone keeps name and size for NGINX's own checks.
fn make_table(shm: &ngx_shm_zone_t, zone: &Zone) -> Result<(), Failed> {
    let log = shm.shm.log;
    let bytes = free_bytes(shm);
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
            GOES_ON.store(is_new_binary(), Relaxed);
            return state::check(zone, None, log);
        }
        Some((left, memory)) => Some((left, Some(memory))),
        None => {
            running(zone).or_else(|| left_by_file(zone)).map(|(table, memory)| (Left::Table(table), memory))
        }
    };
    let memory = shared_memory(&name, bytes, log);
    let base = memory.as_ref().map(Memory::base).or_else(|| take_all(shm, bytes));
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
            state::check(zone, None, log)
        }
        None => state::load(zone, &table, log),
    }
}

/// What others have left us of a zone.
enum Left {
    Table(Table),
    /// Of the release before: its workers go on counting there, and what they count after this is not in the new table.
    Before(TableBefore),
}

/// The table of this zone that the binary before, or another copy of this module, has left us, maybe of another size.
fn left(zone: &Zone, name: &[u8], log: *mut ngx_log_t) -> Option<(Left, Memory)> {
    let mut refused = None;
    for memory in Memory::left(name, source()?).into_iter().filter(|memory| memory.is_named(name)) {
        let (base, bytes, key_text) = (memory.base(), memory.bytes(), zone.key_text.as_bytes());
        // SAFETY: as many bytes are mapped, at the start of a page, as long as `memory` is there.
        let found = unsafe {
            match Table::open(base, bytes, key_text).map(Left::Table) {
                Err(table::Error::Foreign) => Table::open_before(base, bytes, key_text).map(Left::Before),
                result => result,
            }
        };
        match found {
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

/// As [`left`], of a zone that had another name and the same file. Its accounts are copied, since memory is known by the name.
fn left_by_file(zone: &Zone) -> Option<(Table, Option<Memory>)> {
    let state = zone.state.as_ref()?;
    Memory::left(b":", source()?).into_iter().find_map(|memory| {
        // SAFETY: as in `left`.
        let table = unsafe { Table::open(memory.base(), memory.bytes(), zone.key_text.as_bytes()) }.ok()?;
        state.is_of(&table).then_some((table, Some(memory)))
    })
}

/// Says what became of accounts that were there before.
pub fn log_restored(zone: &Zone, restored: Restored, from: &str, log: *mut ngx_log_t) {
    let Restored { accounts, overflowed } = restored;
    let name = zone.name;
    ngx_log_error!(
        NGX_LOG_NOTICE,
        log,
        "request_cpu_zone \"{name}\": {accounts} accounts restored from {from}"
    );
    if overflowed > 0 {
        ngx_log_error!(
            NGX_LOG_WARN,
            log,
            "request_cpu_zone \"{name}\" is too small: {overflowed} accounts from {from} were added to \"*\""
        );
    }
}

/// The accounts of this zone in the configuration that is running: those of the zone with this name, or, if it has got another
/// name, of the zone with this state file.
fn running(zone: &Zone) -> Option<(Table, Option<Memory>)> {
    conf::with_running(|main| {
        let has_file =
            |before: &&Zone| zone.state_path().is_some() && before.state_path() == zone.state_path();
        let zones = main?.zones().filter(|before| before.key_text == zone.key_text);
        let before =
            zones.clone().find(|before| before.name == zone.name).or_else(|| zones.clone().find(has_file))?;
        Some((before.table()?, before.memory.get().cloned()))
    })
}

/// Whether this process was executed by another NGINX, and is reading its first configuration: only then is there memory of a
/// binary before.
pub fn is_new_binary() -> bool {
    // SAFETY: `ngx_add_inherited_sockets` sets it before the configuration is read.
    unsafe { ngx_inherited != 0 && Cycle::with_running(|running| running.is_none()) }
}

/// The process ID of the master that has executed this one, as long as both are there.
pub fn old_master() -> Option<u32> {
    // SAFETY: has no conditions; `main` sets `ngx_parent` when NGINX starts.
    let (parent, first) = unsafe { (libc::getppid(), ngx_parent) };
    // SAFETY: set before the configuration is read.
    (unsafe { ngx_inherited != 0 } && parent == first).then(|| parent.unsigned_abs())
}

/// Where others have left memory, while a configuration is read that is the first one with this copy of the module.
pub fn source() -> Option<Source> {
    Cycle::with_running(|running| match running {
        // SAFETY: set before the configuration is read.
        None => (unsafe { ngx_inherited != 0 }).then(|| Source::Parent(old_master())),
        Some(running) => (!running.has_module(module()) && running.has_other_copy_of(module()))
            .then_some(Source::SameProcess),
    })
}

/// Memory that a new binary can go on with; none where the system does not allow that.
pub fn shared_memory(what: &[u8], bytes: usize, log: *mut ngx_log_t) -> Option<Memory> {
    let memory = Memory::create(what, bytes);
    if let Err(error) = &memory {
        ngx_log_error!(NGX_LOG_NOTICE, log, "request_cpu: no memory that outlives a binary upgrade: {error}");
    }
    memory.ok()
}

/// Called by `ngx_init_modules`, when a configuration is complete and cannot fail any more.
pub unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: NGINX calls with the cycle that is about to be used.
    let Some(cycle) = (unsafe { Cycle::new(cycle) }) else { return NGX_OK as ngx_int_t };
    if is_new_binary() {
        memory::close_inherited();
    }
    crate::take_context_index(cycle);
    let main = main_conf(cycle);
    cycle.with_previous(|before| {
        let before = before.and_then(main_conf);
        if let Some(main) = main.filter(|_| !state::is_test()) {
            take_over(main, cycle.log());
        }
        let write_logs = || traffic_log::commit(main, before, cycle);
        if let Some(before) = before {
            let is_kept = |zone: &Zone| {
                let table = zone.table();
                main.into_iter().flat_map(MainConf::zones).any(|now| {
                    now.table().map(|table| table.id()) == table.map(|table| table.id())
                        // it has got another size or another name
                        || now.state_path().is_some() && now.state_path() == zone.state_path()
                })
            };
            leave(before, |zone| !is_kept(zone), cycle.log(), write_logs);
            before.stage.set(Stage::Over);
        } else {
            write_logs();
        }
    });
    NGX_OK as ngx_int_t
}

/// A configuration gets in use.
fn take_over(main: &MainConf, log: *mut ngx_log_t) {
    main.stage.set(Stage::Used);
    for zone in main.zones() {
        if let Some(table) = zone.table() {
            // for workers of before as well
            table.set_active_threshold(zone.active_threshold_ns);
            table.set_orphaned(false);
        }
        state::commit(zone, log);
    }
}

/// Some zones of a configuration are in none any more: their files are written, while `meanwhile` is called, and workers that
/// still count there go on with that.
fn leave(main: &MainConf, is_gone: impl Fn(&Zone) -> bool, log: *mut ngx_log_t, meanwhile: impl FnOnce()) {
    let gone: Vec<&Zone> = main.zones().filter(|zone| is_gone(zone)).collect();
    // another master has the same table, and its workers go on as before
    if !has_other_binary() {
        gone.iter().filter_map(|zone| zone.table()).for_each(|table| table.set_orphaned(true));
    }
    let saving = Saving::start(gone.iter().copied(), log);
    meanwhile();
    // where the disk does not answer, the locks go with the configuration, and their files stay
    if saving.finish() {
        state::unlock(gone.into_iter());
    }
}

/// A configuration that is watched for its end.
struct Watched {
    main: *const MainConf,
    cycle: *const ngx_cycle_t,
}

/// Notices when NGINX gives up the configuration that is being read. `None` if there is no memory.
pub fn watch_end(cf: &mut ngx_conf_t, main: &MainConf) -> Option<()> {
    // `ngx_destroy_pool` drops it first, before the zones and logs, which were added while directives were read
    conf::own(cf, Watched { main, cycle: cf.cycle }).map(drop)
}

impl Drop for Watched {
    /// `ngx_init_cycle` has failed, or it destroys the cycle before. If the new one has this module, [`init_module`] has seen to everything. If not,
    /// nobody else calls this copy of the module any more: NGINX unmaps it next (`ngx_unload_module`).
    fn drop(&mut self) {
        // SAFETY: set when a process begins. The configuration and its cycle are in the pool that is being destroyed, which frees
        // its memory after all cleanups.
        let (process, main, cycle) = unsafe { (ngx_process, &*self.main, Cycle::new(self.cycle)) };
        let serves =
            process == NGX_PROCESS_MASTER as ngx_uint_t || process == NGX_PROCESS_SINGLE as ngx_uint_t;
        let stage = main.stage.replace(Stage::Over);
        if stage == Stage::Tried {
            state::give_up(main);
        }
        let (Some(cycle), Stage::Used, true) = (cycle, stage, serves) else { return };
        // what is in NGINX's own zones is gone already
        let is_gone = |memory: Option<&Memory>| memory.is_some_and(|memory| !memory.is_taken_over());
        let end = |log| {
            let write_logs = || traffic_log::leave(main, cycle, |of| is_gone(of.memory.get()), log);
            leave(main, |zone| is_gone(zone.memory.get()) && !state::is_taken_over(zone), log, write_logs);
        };
        // SAFETY: as above.
        unsafe { crate::nginx::log::reopened(cycle.log(), end) };
    }
}

/// Whether this process counts in accounts that the binary before has left it.
static GOES_ON: AtomicBool = AtomicBool::new(false);

/// Whether another master, the one before or the one after a binary upgrade, has workers that count in the same accounts.
///
/// Sockets that were inherited do not tell: a supervisor can hand them over too, and then it is the parent
/// (`ngx_add_inherited_sockets`).
pub fn has_other_binary() -> bool {
    // SAFETY: set by NGINX's main function and by the master's signal handler, in this process.
    let (parent, new) = unsafe { (ngx_parent, ngx_new_binary) };
    // SAFETY: has no conditions.
    new > 0 || GOES_ON.load(Relaxed) && unsafe { libc::getppid() } == parent
}

/// In a process that the master has forked: it does not hand on what the master keeps.
pub fn close_descriptors(main: &MainConf) {
    let zones = main.zones().filter_map(|zone| zone.memory.get());
    let workers = workers_zone(main).and_then(|workers| workers.memory.get());
    zones.chain(workers).chain(traffic_log::memories(main)).for_each(Memory::close);
    main.zones().filter_map(|zone| zone.state.as_ref()).for_each(StateFile::close);
}

/// As many bytes as a zone that NGINX has just made has room for.
fn free_bytes(shm: &ngx_shm_zone_t) -> usize {
    // SAFETY: `ngx_init_zone_pool` has set up a slab pool at the start of the zone.
    unsafe { (*shm.shm.addr.cast::<ngx_slab_pool_t>()).pfree * ngx_pagesize }
}

/// Takes all of them as one piece, aligned to a page, if there are as many as `needed`. The slab allocator stays in place:
/// `ngx_unlock_mutexes` looks at it when a worker dies.
pub fn take_all(shm: &ngx_shm_zone_t, needed: usize) -> Option<NonNull<u8>> {
    let bytes = free_bytes(shm);
    // SAFETY: as above; a size of whole pages is served by `ngx_slab_alloc_pages`.
    (bytes >= needed).then(|| NonNull::new(unsafe { ngx_slab_alloc(shm.shm.addr.cast(), bytes) }.cast()))?
}

/// Two numbers that clients cannot know.
fn seed() -> [u64; 2] {
    let mut seed = [0u64; 2];
    // SAFETY: writes at most as many bytes as the array has.
    let filled =
        unsafe { libc::getrandom(seed.as_mut_ptr().cast(), size_of_val(&seed), libc::GRND_NONBLOCK) };
    if filled != size_of_val(&seed) as isize {
        // early in a boot the kernel may have none to give
        seed = core::array::from_fn(|_| ngx_random() as u64 ^ u64::from(std::process::id()) << 32);
    }
    seed
}

/// Where the worker totals of the workers are. In the configuration's pool.
#[derive(Default)]
pub struct WorkersZone {
    workers: OnceCell<Workers>,
    /// none if they are in NGINX's zone
    memory: OnceCell<Memory>,
}

impl WorkersZone {
    fn go_on(&self, workers: Workers, memory: Option<Memory>) {
        // `ngx_init_cycle` calls once
        let _ = self.workers.set(workers);
        if let Some(memory) = memory {
            let _ = self.memory.set(memory);
        }
    }
}

/// Asks NGINX for the memory that the workers share for their worker totals. `None` if there is no memory.
pub fn add_workers(cf: &mut ngx_conf_t) -> Option<*const WorkersZone> {
    let mut name: ngx_str_t = ngx_string!("ngx_http_request_cpu_workers");
    // SAFETY: set when NGINX starts.
    let page = unsafe { ngx_pagesize };
    // what the slab pool takes for itself: its head, and a descriptor of 24 bytes per page
    let bytes = (workers::BYTES + workers::BYTES / 64).next_multiple_of(page) + 4 * page;
    let zone = conf::own(cf, WorkersZone::default())?;
    // SAFETY: `cf` is valid, and its cycle lives as long as the configuration.
    unsafe {
        let shm = ngx_shared_memory_add(cf, &mut name, bytes, module().cast()).as_mut()?;
        shm.init = Some(init_workers);
        shm.data = zone.cast();
    }
    Some(zone)
}

unsafe extern "C" fn init_workers(shm: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `add_workers` has put a `WorkersZone` there, in this cycle and in the one before; both change through cells.
    let (shm, zone, before) =
        unsafe { (&*shm, &*(*shm).data.cast::<WorkersZone>(), data.cast::<WorkersZone>().as_ref()) };
    if let Some((workers, before)) = before.and_then(|before| Some((*before.workers.get()?, before))) {
        zone.go_on(workers, before.memory.get().cloned());
        return NGX_OK as ngx_int_t;
    }
    let name = b"_workers";
    let left = source().map(|source| Memory::left(name, source)).unwrap_or_default();
    for memory in left.into_iter().filter(|memory| memory.bytes() == workers::BYTES) {
        // SAFETY: as many bytes are mapped, at the start of a page, as long as the zone has `memory`.
        if let Ok(workers) = unsafe { Workers::open(memory.base()) } {
            zone.go_on(workers, Some(memory));
            return NGX_OK as ngx_int_t;
        }
    }
    let memory = shared_memory(name, workers::BYTES, shm.shm.log);
    let room = || take_all(shm, workers::BYTES);
    let Some(base) = memory.as_ref().map(Memory::base).or_else(room) else {
        ngx_log_error!(NGX_LOG_EMERG, shm.shm.log, "no memory for the totals of the workers");
        return NGX_ERROR as ngx_int_t;
    };
    // SAFETY: memory that nobody else uses, enough of it, and that stays as long as the zone.
    zone.go_on(unsafe { Workers::create(base) }, memory);
    NGX_OK as ngx_int_t
}

fn workers_zone(main: &MainConf) -> Option<&WorkersZone> {
    // SAFETY: null, or made by `add_workers` in the configuration's pool.
    unsafe { main.workers.as_ref() }
}

/// The worker totals of the workers, if anything is measured.
pub fn workers(main: &MainConf) -> Option<Workers> {
    workers_zone(main)?.workers.get().copied()
}
