//! What becomes of counters when a configuration gets in use, and when it ends.

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

/// What has become of a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// It is being read and tried. If that fails, nothing of it has had an effect.
    #[default]
    Tried,
    /// It is in use, or was.
    Used,
    /// Its counters are in the hands of another configuration, or were saved.
    Over,
}

/// Attached to a configuration.
#[derive(Default)]
struct Kept {
    stage: Cell<Stage>,
    workers: OnceCell<Rc<WorkersZone>>,
}

fn kept(main: &MainConf) -> Option<&Kept> {
    main.attached.get()
}

fn set_stage(main: &MainConf, stage: Stage) -> Option<Stage> {
    kept(main).map(|kept| kept.stage.replace(stage))
}

/// Asks NGINX for the memory that the workers share for their totals.
///
/// # Errors
/// There is no memory.
pub fn add_workers(cf: &Conf<'_>, main: &MainConf) -> Result<(), Failed> {
    // called once
    let _ = kept(main).ok_or(Failed)?.workers.set(workers::add(cf)?);
    Ok(())
}

/// The totals of the workers, if anything is measured.
pub fn workers(main: &MainConf) -> Option<Workers> {
    kept(main)?.workers.get()?.workers()
}

/// A configuration gets in use, which cannot fail any more. `before`: the one before. `write_logs` is called
/// while files are written.
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
                // it has got another size or another name
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
            // for workers of before as well
            table.set_active_threshold(zone.active_threshold_ns);
            table.set_orphaned(false);
        }
        load::commit(zone, log);
    }
}

/// Some zones of a configuration are in none any more: their files are written, while `meanwhile` is called,
/// and workers that still count there go on with that.
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
        locks::unlock(gone.into_iter());
    }
}

/// NGINX gives a configuration up: `ngx_init_cycle` has failed, or it destroys the cycle before. If the new one
/// has this module, [`begin`] has seen to everything. If not, nobody else calls this copy of the module any
/// more: NGINX unmaps it next (`ngx_unload_module`). Then `write_logs` is called with a log, for the files of
/// what has `Memory` that is gone.
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
    // what is in NGINX's own zones is gone already
    let is_gone = |memory: &Memory| !memory.is_taken_over();
    cycle.with_reopened_log(|log| {
        let is_zone_gone = |zone: &Zone| memory(zone).is_some_and(is_gone) && !locks::is_taken_over(zone);
        leave(main, is_zone_gone, log, || write_logs(&is_gone, log));
    });
}

/// The master ends, when all workers are gone.
pub fn exit_master(main: &MainConf, cycle: Cycle<'_>, write_logs: impl FnOnce()) {
    // nobody counts any more, unless another binary does
    if !has_other_binary() {
        main.zones().filter_map(Zone::table).for_each(|table| table.conclude());
    }
    // at the same time: each may have to wait for a disk
    let saving = Saving::start(main.zones(), cycle.log());
    write_logs();
    if saving.finish() {
        locks::remove_locks(main, cycle.log());
    }
    set_stage(main, Stage::Over);
}

/// In a process that the master has forked: it does not hand on what the master keeps.
pub fn close_descriptors(main: &MainConf) {
    main.zones().filter_map(memory).for_each(Memory::close);
    if let Some(workers) = kept(main).and_then(|kept| kept.workers.get()) {
        workers.memory().into_iter().for_each(Memory::close);
    }
    main.zones().for_each(locks::close);
}
