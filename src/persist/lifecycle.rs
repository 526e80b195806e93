//! The handling of counters when a configuration comes into use, and when it ends.

use core::cell::{Cell, OnceCell};
use std::rc::Rc;

use accounting::workers::Workers;
use nginx_sys::ngx_log_t;

use crate::config::main::MainConf;
use crate::config::zone::Zone;
use crate::nginx::conf::{Conf, Failed};
use crate::nginx::cycle::Cycle;
use crate::nginx::process::{self, Role};
use crate::persist::kept::memory;
use crate::persist::memory::Memory;
use crate::persist::origin::has_other_binary;
use crate::persist::state::save::Saving;
use crate::persist::state::{load, locks};
use crate::persist::workers::{self, WorkersZone};

/// The stage of a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// The configuration is being read and tried. If that fails, it has had no effect.
    #[default]
    Tried,
    /// The configuration is in use, or was in use.
    Used,
    /// Its counters were passed to another configuration, or were saved.
    Over,
}

/// The state that is attached to a configuration.
#[derive(Default)]
struct KeptCycle {
    stage: Cell<Stage>,
    workers: OnceCell<Rc<WorkersZone>>,
}

fn kept(main: &MainConf) -> Option<&KeptCycle> {
    main.attached.get()
}

fn set_stage(main: &MainConf, stage: Stage) -> Option<Stage> {
    kept(main).map(|kept| kept.stage.replace(stage))
}

/// Requests the memory for the totals of the workers from NGINX.
///
/// # Errors
/// There is no memory.
pub fn add_workers(cf: &Conf<'_>, main: &MainConf) -> Result<(), Failed> {
    // this is called once
    let _ = kept(main).ok_or(Failed)?.workers.set(workers::add(cf)?);
    Ok(())
}

/// The totals of the workers, if anything is measured.
pub fn workers(main: &MainConf) -> Option<Workers> {
    kept(main)?.workers.get()?.workers()
}

/// Called when a configuration comes into use, which cannot fail any more. `before` is the previous configuration.
/// `write_logs` is called while files are written.
pub fn begin(
    main: Option<&MainConf>,
    before: Option<&MainConf>,
    cycle: Cycle<'_>,
    write_logs: impl FnOnce(),
) {
    if let Some(main) = main.filter(|_| !process::is_test()) {
        take_over(main, cycle.log());
    }
    let Some(before) = before else { return write_logs() };
    let is_kept = |zone: &Zone| {
        let table = zone.table();
        main.into_iter().flat_map(MainConf::zones).any(|now| {
            now.table().map(|table| table.id()) == table.map(|table| table.id())
                // the zone has another size or another name now
                || now.state_path().is_some() && now.state_path() == zone.state_path()
        })
    };
    leave(before, |zone| !is_kept(zone), cycle.log(), write_logs);
    set_stage(before, Stage::Over);
}

fn take_over(main: &MainConf, log: *mut ngx_log_t) {
    set_stage(main, Stage::Used);
    for zone in main.zones() {
        if let Some(table) = zone.table() {
            // these settings also apply to workers of the previous configuration
            table.set_active_threshold(zone.active_threshold_ns);
            table.set_orphaned(false);
        }
        load::commit(zone, log);
    }
}

/// Handles zones that are no longer in any configuration. Their files are written while `meanwhile` is called. Workers
/// that still count in these zones continue writing them.
fn leave(main: &MainConf, is_gone: impl Fn(&Zone) -> bool, log: *mut ngx_log_t, meanwhile: impl FnOnce()) {
    let gone: Vec<&Zone> = main.zones().filter(|zone| is_gone(zone)).collect();
    // with another binary, its master has the same table, and its workers continue as before
    if !has_other_binary() {
        gone.iter().filter_map(|zone| zone.table()).for_each(|table| table.set_orphaned(true));
    }
    let saving = Saving::start(gone.iter().copied(), log);
    meanwhile();
    // If the disk does not answer, the locks are released with the configuration, and their files stay.
    if saving.finish() {
        locks::unlock(gone.into_iter());
    }
}

/// NGINX calls this when it gives a configuration up: `ngx_init_cycle` has failed, or it destroys the previous cycle.
/// If the new cycle has this module, [`begin`] has handled everything. If not, this is the last call of this copy of
/// the module: NGINX unmaps it next (`ngx_unload_module`). In that case `write_logs` is called with a log. It must
/// write the files of those logs whose `Memory` is gone.
pub fn end(
    main: &MainConf,
    cycle: Cycle<'_>,
    write_logs: impl FnOnce(&dyn Fn(&Memory) -> bool, *mut ngx_log_t),
) {
    let Some(stage) = set_stage(main, Stage::Over) else { return };
    if stage == Stage::Tried {
        locks::give_up(main);
    }
    if stage != Stage::Used || !matches!(process::role(), Role::Master | Role::Single) {
        return;
    }
    // memory in NGINX's own zones is gone already
    let is_gone = |memory: &Memory| !memory.is_taken_over();
    cycle.with_reopened_log(|log| {
        let is_zone_gone = |zone: &Zone| memory(zone).is_some_and(is_gone) && !locks::is_taken_over(zone);
        leave(main, is_zone_gone, log, || write_logs(&is_gone, log));
    });
}

/// Called when the master ends, after all workers have ended.
pub fn exit_master(main: &MainConf, cycle: Cycle<'_>, write_logs: impl FnOnce()) {
    // no worker counts any more, unless another binary has workers
    if !has_other_binary() {
        main.zones().filter_map(Zone::table).for_each(|table| table.conclude());
    }
    // Both write at the same time: each may have to wait for a disk.
    let saving = Saving::start(main.zones(), cycle.log());
    write_logs();
    if saving.finish() {
        locks::remove_locks(main, cycle.log());
    }
    set_stage(main, Stage::Over);
}

/// Closes the descriptors of the shared memory and of the locks. Called in a process that the master has forked: the
/// process must not pass them on.
pub fn close_descriptors(main: &MainConf) {
    main.zones().filter_map(memory).for_each(Memory::close);
    if let Some(workers) = kept(main).and_then(|kept| kept.workers.get()) {
        workers.memory().into_iter().for_each(Memory::close);
    }
    main.zones().for_each(locks::close);
}
