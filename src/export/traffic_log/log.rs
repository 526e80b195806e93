//! The state of a log for the lifetime of its configuration.

use core::cell::{Cell, OnceCell};

use accounting::table::Table;
use accounting::traffic::{self, Ledger};

use crate::config::log::Log;
use crate::config::main::MainConf;
use crate::persist::memory::Memory;

/// The state that is attached to a log.
#[derive(Default)]
pub struct KeptLog {
    /// set when the shared memory exists
    pub ledger: OnceCell<Ledger>,
    pub table: OnceCell<Table>,
    /// none if the ledger is in NGINX's zone
    pub memory: OnceCell<Memory>,
    /// its ledger does not continue the ledger of another log
    pub is_new: Cell<bool>,
}

/// The state of a log.
pub fn kept(log: &Log) -> Option<&KeptLog> {
    log.attached.get()
}

/// The identifier of a log, which is the same in all processes.
pub fn name(log: &Log) -> u64 {
    traffic::name_of(log.zone_name.as_bytes(), log.path().as_bytes())
}

pub fn ledger(log: &Log) -> Option<Ledger> {
    kept(log)?.ledger.get().copied()
}

pub fn table(log: &Log) -> Option<Table> {
    kept(log)?.table.get().copied()
}

/// The memory of a log; none if the ledger is in NGINX's zone.
pub fn memory(log: &Log) -> Option<&Memory> {
    kept(log)?.memory.get()
}

pub fn has_table(log: &Log, table: &Table) -> bool {
    self::table(log).is_some_and(|its| its.id() == table.id())
}

/// Closes the descriptors of the memory. Called in a process that the master has forked: the process must not pass the
/// master's descriptors on.
pub fn close_descriptors(main: &MainConf) {
    main.logs().filter_map(memory).for_each(Memory::close);
}
