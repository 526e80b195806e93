//! Shared memory: a table of accounts for each zone, and the books of the workers.

use core::ffi::c_void;
use core::ptr::NonNull;

use accounting::table::Table;
use accounting::workers::{self, Workers};
use nginx_sys::{
    NGX_ERROR, NGX_LOG_EMERG, NGX_OK, ngx_conf_t, ngx_int_t, ngx_pagesize, ngx_pcalloc, ngx_random,
    ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_alloc, ngx_slab_pool_t, ngx_str_t,
};
use ngx::{ngx_log_error, ngx_string};

use crate::conf::{MainConf, Zone};
use crate::module;

/// Called by `ngx_init_cycle` when the zone's memory is there. `data` is the zone of the cycle before, if NGINX keeps its
/// memory, which it does when name and size are the same.
pub extern "C" fn init_zone(shm: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `request_cpu_zone` has put a `Zone` there, in this cycle and in the one before.
    let (shm, zone, before) =
        unsafe { (&*shm, &mut *(*shm).data.cast::<Zone>(), data.cast::<Zone>().as_ref()) };
    if let Some(before) = before {
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
        return NGX_OK as ngx_int_t;
    }
    let Some((base, bytes)) = take_all(shm) else {
        ngx_log_error!(NGX_LOG_EMERG, shm.shm.log, "no memory in request_cpu_zone \"{}\"", zone.name);
        return NGX_ERROR as ngx_int_t;
    };
    // SAFETY: `take_all` has given us pages of shared memory that nobody else uses, and that stay as long as the zone.
    match unsafe { Table::create(base, bytes, seed()) } {
        Ok(table) => {
            zone.table = Some(table);
            NGX_OK as ngx_int_t
        }
        Err(error) => {
            ngx_log_error!(NGX_LOG_EMERG, shm.shm.log, "{error} in request_cpu_zone \"{}\"", zone.name);
            NGX_ERROR as ngx_int_t
        }
    }
}

/// All free pages of a zone that NGINX has just made, as one piece, aligned to a page. Its slab allocator stays in place:
/// `ngx_unlock_mutexes` looks at it when a worker dies.
fn take_all(shm: &ngx_shm_zone_t) -> Option<(NonNull<u8>, usize)> {
    let pool = shm.shm.addr.cast::<ngx_slab_pool_t>();
    // SAFETY: `ngx_init_zone_pool` has set up a slab pool at the start of the zone; a size of whole pages is served by
    // `ngx_slab_alloc_pages`.
    unsafe {
        let bytes = (*pool).pfree * ngx_pagesize;
        let base = NonNull::new(ngx_slab_alloc(pool, bytes).cast::<u8>())?;
        (*pool).data = base.as_ptr().cast();
        Some((base, bytes))
    }
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
#[repr(C)]
pub struct WorkersZone {
    pub workers: Option<Workers>,
}

/// Asks NGINX for the memory that the workers share for their books.
pub fn add_workers(cf: &mut ngx_conf_t, main: &mut MainConf) -> Result<(), ()> {
    let mut name: ngx_str_t = ngx_string!("ngx_http_request_cpu_workers");
    // SAFETY: set when NGINX starts.
    let page = unsafe { ngx_pagesize };
    // what the slab pool takes for itself: its head, and a descriptor of 24 bytes per page
    let bytes = (workers::BYTES + workers::BYTES / 64).next_multiple_of(page) + 4 * page;
    // SAFETY: `cf` is valid, and its pool and cycle live as long as the configuration.
    unsafe {
        let zone = ngx_pcalloc(cf.pool, size_of::<WorkersZone>()).cast::<WorkersZone>();
        let shm = ngx_shared_memory_add(cf, &mut name, bytes, module().cast());
        if zone.is_null() || shm.is_null() {
            return Err(());
        }
        zone.write(WorkersZone { workers: None });
        (*shm).init = Some(init_workers);
        (*shm).data = zone.cast();
        main.workers = zone;
    }
    Ok(())
}

extern "C" fn init_workers(shm: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    // SAFETY: `add_workers` has put a `WorkersZone` there, in this cycle and in the one before.
    let (shm, zone, before) =
        unsafe { (&*shm, &mut *(*shm).data.cast::<WorkersZone>(), data.cast::<WorkersZone>().as_ref()) };
    if let Some(before) = before {
        zone.workers = before.workers;
        return NGX_OK as ngx_int_t;
    }
    let Some((base, _)) = take_all(shm).filter(|&(_, bytes)| bytes >= workers::BYTES) else {
        ngx_log_error!(NGX_LOG_EMERG, shm.shm.log, "no memory for the books of the workers");
        return NGX_ERROR as ngx_int_t;
    };
    // SAFETY: pages of shared memory that nobody else uses, enough of them, and that stay as long as the zone.
    zone.workers = Some(unsafe { Workers::create(base) });
    NGX_OK as ngx_int_t
}

/// The books of the workers, if anything is measured.
pub fn workers(main: &MainConf) -> Option<Workers> {
    // SAFETY: null, or made by `add_workers` in the configuration's pool.
    unsafe { main.workers.as_ref() }?.workers
}
