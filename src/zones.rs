//! Shared memory: a table of accounts for each zone, and the books of the workers.

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use accounting::state::Restored;
use accounting::table::{self, Table};
use accounting::workers::{self, Workers};
use nginx_sys::{
    NGX_ERROR, NGX_LOG_EMERG, NGX_LOG_NOTICE, NGX_LOG_WARN, NGX_OK, ngx_conf_t, ngx_cycle, ngx_cycle_t,
    ngx_inherited, ngx_int_t, ngx_log_t, ngx_new_binary, ngx_pagesize, ngx_parent, ngx_random,
    ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_alloc, ngx_slab_pool_t, ngx_str_t,
};
use ngx::{ngx_log_error, ngx_string};

use crate::conf::{self, MainConf, Zone, main_conf};
use crate::memory::{self, Memory};
use crate::{module, state, traffic_log};

/// Called by `ngx_init_cycle` when the zone's memory is there. `data` is the zone of the cycle before, if NGINX keeps its
/// memory, which it does when name and size are the same.
pub extern "C" fn init_zone(shm: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `request_cpu_zone` has put a `Zone` there, in this cycle and in the one before.
    let (shm, zone, before) =
        unsafe { (&*shm, &mut *(*shm).data.cast::<Zone>(), data.cast::<Zone>().as_ref()) };
    let Some(before) = before else {
        return match make_table(shm, zone) {
            Ok(()) => NGX_OK as ngx_int_t,
            Err(reason) => {
                ngx_log_error!(NGX_LOG_EMERG, shm.shm.log, "{reason} in request_cpu_zone \"{}\"", zone.name);
                NGX_ERROR as ngx_int_t
            }
        };
    };
    if before.key_text != zone.key_text {
        ngx_log_error!(
            NGX_LOG_EMERG,
            shm.shm.log,
            "request_cpu_zone \"{}\" uses the \"{}\" key while previously it used the \"{}\" key",
            zone.name,
            zone.key_text,
            before.key_text
        );
        return NGX_ERROR as ngx_int_t;
    }
    zone.table = before.table;
    zone.memory = before.memory.clone();
    if zone.state != before.state {
        state::check(zone, shm.shm.log);
    }
    state::begin(zone);
    NGX_OK as ngx_int_t
}

/// A table for a zone whose memory NGINX has just made: the one that the binary before has left us, or a new one with what
/// the accounts had before, as far as that is known.
///
/// A table that others than our own workers may go on with lies outside of the zone that NGINX made; the pages there are not
/// touched then, and take no memory. The zone keeps name and size for NGINX's own checks.
fn make_table(shm: &ngx_shm_zone_t, zone: &mut Zone) -> Result<(), table::Error> {
    let log = shm.shm.log;
    let bytes = free_bytes(shm);
    let name = [b":", zone.name.as_bytes()].concat();
    let old = match inherited(zone, &name, log) {
        Some((table, memory)) if memory.bytes() == bytes => {
            ngx_log_error!(
                NGX_LOG_NOTICE,
                log,
                "request_cpu_zone \"{}\" goes on with the accounts of the binary before",
                zone.name
            );
            GOES_ON.store(true, Relaxed);
            zone.table = Some(table);
            zone.memory = Some(memory);
            state::check(zone, log);
            state::begin(zone);
            return Ok(());
        }
        Some((table, memory)) => Some((table, Some(memory))),
        None => running(zone),
    };
    zone.memory = shared_memory(&name, bytes, log);
    let base = zone
        .memory
        .as_ref()
        .map(Memory::base)
        .or_else(|| take_all(shm, bytes))
        .ok_or(table::Error::TooSmall)?;
    // SAFETY: memory that nobody else uses, at the start of a page, and that stays as long as the zone.
    let table = unsafe { Table::create(base, bytes, seed(), zone.key_text.as_bytes()) }?;
    zone.table = Some(table);
    match old {
        Some((old, _memory)) => {
            let restored = accounting::state::copy(&old, &table);
            log_restored(zone, restored, "the zone before, which had another size", log);
            state::check(zone, log);
        }
        None => state::load(zone, &table, log),
    }
    state::begin(zone);
    Ok(())
}

/// The table of this zone that the binary before has left us, maybe of another size.
fn inherited(zone: &Zone, name: &[u8], log: *mut ngx_log_t) -> Option<(Table, Memory)> {
    let memory = is_new_binary().then(|| Memory::inherited(name))??;
    // SAFETY: as many bytes are mapped, at the start of a page, as long as `memory` is there.
    match unsafe { Table::open(memory.base(), memory.bytes(), zone.key_text.as_bytes()) } {
        Ok(table) => Some((table, memory)),
        Err(error) => {
            ngx_log_error!(
                NGX_LOG_NOTICE,
                log,
                "request_cpu_zone \"{}\" does not go on with the accounts of the binary before: {error}",
                zone.name
            );
            None
        }
    }
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

/// The zone of this name and key in the configuration that is running, if there is one.
fn running(zone: &Zone) -> Option<(Table, Option<Memory>)> {
    // SAFETY: the cycle before, which is complete; the first time, it is `init_cycle` of NGINX's main function.
    let cycle = unsafe { ngx_cycle.as_ref() }.filter(|cycle| !cycle.conf_ctx.is_null())?;
    // SAFETY: zones live in their configuration's pool.
    let zones = main_conf(cycle)?.zones().iter().map(|&zone| unsafe { &*zone });
    let same = |before: &&Zone| before.name == zone.name && before.key_text == zone.key_text;
    let before = zones.into_iter().find(same)?;
    Some((before.table?, before.memory.clone()))
}

/// Whether this process was executed by another NGINX, and is reading its first configuration: only then are descriptors
/// open that it has not opened itself.
pub fn is_new_binary() -> bool {
    // SAFETY: `ngx_add_inherited_sockets` sets the one before the configuration is read; the other is `init_cycle` of NGINX's
    // main function, until the first configuration is in use (`ngx_is_init_cycle`).
    unsafe { ngx_inherited != 0 && ngx_cycle.as_ref().is_none_or(|cycle| cycle.conf_ctx.is_null()) }
}

/// Memory that a new binary can go on with; none where the system does not allow that.
pub fn shared_memory(what: &[u8], bytes: usize, log: *mut ngx_log_t) -> Option<Memory> {
    let memory = Memory::create(what, bytes);
    if let Err(error) = &memory {
        ngx_log_error!(NGX_LOG_NOTICE, log, "request_cpu: no memory that outlives a binary upgrade: {error}");
    }
    memory.ok()
}

/// Called when a configuration is complete, by `ngx_init_modules`.
pub extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    if is_new_binary() {
        let main = main_conf(cycle);
        let zones = main.iter().flat_map(|main| main.zones());
        // SAFETY: zones live in the configuration's pool.
        let memories = zones.filter_map(|&zone| unsafe { (*zone).memory.as_ref() });
        let workers = main.iter().filter_map(|main| workers_zone(main)?.memory.as_ref());
        traffic_log::close_inherited();
        let logs = main.iter().flat_map(|main| traffic_log::memories(main));
        memory::close_inherited(memories.chain(workers).chain(logs));
    }
    for &zone in main_conf(cycle).iter().flat_map(|main| main.zones()) {
        // SAFETY: zones live in the configuration's pool.
        let zone = unsafe { &*zone };
        if let Some(table) = zone.table {
            // for workers of before as well
            table.set_active_threshold(zone.active_threshold_ns);
        }
    }
    // SAFETY: NGINX calls with the cycle that is about to be used.
    traffic_log::commit(unsafe { &*cycle });
    NGX_OK as ngx_int_t
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

/// In a process that the master has forked: what it executes is not to inherit the memory.
pub fn close_descriptors(main: &mut MainConf) {
    traffic_log::close_descriptors(main);
    // SAFETY: zones and the workers' books live in the configuration's pool, and this process has one thread.
    unsafe {
        main.zones().iter().filter_map(|&zone| (*zone).memory.as_mut()).for_each(Memory::close);
        main.workers.as_mut().and_then(|workers| workers.memory.as_mut()).map(Memory::close);
    }
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

/// Where the books of the workers are. In the configuration's pool.
pub struct WorkersZone {
    pub workers: Option<Workers>,
    /// none if they are in NGINX's zone
    memory: Option<Memory>,
}

/// Asks NGINX for the memory that the workers share for their books.
pub fn add_workers(cf: &mut ngx_conf_t, main: &mut MainConf) -> Result<(), ()> {
    let mut name: ngx_str_t = ngx_string!("ngx_http_request_cpu_workers");
    // SAFETY: set when NGINX starts.
    let page = unsafe { ngx_pagesize };
    // what the slab pool takes for itself: its head, and a descriptor of 24 bytes per page
    let bytes = (workers::BYTES + workers::BYTES / 64).next_multiple_of(page) + 4 * page;
    let zone = conf::own(cf, WorkersZone { workers: None, memory: None }).ok_or(())?;
    // SAFETY: `cf` is valid, and its cycle lives as long as the configuration.
    unsafe {
        let shm = ngx_shared_memory_add(cf, &mut name, bytes, module().cast()).as_mut().ok_or(())?;
        shm.init = Some(init_workers);
        shm.data = zone.cast();
    }
    main.workers = zone;
    Ok(())
}

extern "C" fn init_workers(shm: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `add_workers` has put a `WorkersZone` there, in this cycle and in the one before.
    let (shm, zone, before) =
        unsafe { (&*shm, &mut *(*shm).data.cast::<WorkersZone>(), data.cast::<WorkersZone>().as_ref()) };
    if let Some(before) = before {
        zone.workers = before.workers;
        zone.memory = before.memory.clone();
        return NGX_OK as ngx_int_t;
    }
    let name = b"_workers";
    let left = is_new_binary().then(|| Memory::inherited(name)).flatten();
    if let Some(memory) = left.filter(|memory| memory.bytes() == workers::BYTES) {
        // SAFETY: as many bytes are mapped, at the start of a page, as long as the zone has `memory`.
        zone.workers = unsafe { Workers::open(memory.base()) }.ok();
        zone.memory = zone.workers.is_some().then_some(memory);
    }
    if zone.workers.is_none() {
        zone.memory = shared_memory(name, workers::BYTES, shm.shm.log);
        let room = || take_all(shm, workers::BYTES);
        let Some(base) = zone.memory.as_ref().map(Memory::base).or_else(room) else {
            ngx_log_error!(NGX_LOG_EMERG, shm.shm.log, "no memory for the books of the workers");
            return NGX_ERROR as ngx_int_t;
        };
        // SAFETY: memory that nobody else uses, enough of it, and that stays as long as the zone.
        zone.workers = Some(unsafe { Workers::create(base) });
    }
    NGX_OK as ngx_int_t
}

fn workers_zone(main: &MainConf) -> Option<&WorkersZone> {
    // SAFETY: null, or made by `add_workers` in the configuration's pool.
    unsafe { main.workers.as_ref() }
}

/// The books of the workers, if anything is measured.
pub fn workers(main: &MainConf) -> Option<Workers> {
    workers_zone(main)?.workers
}
