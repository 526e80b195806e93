//! A zone: the accounts of a key's values.

use core::cell::OnceCell;
use std::path::{Path, PathBuf};

use accounting::table::Table;
use nginx_sys::ngx_str_t;

use crate::config::attached::Attached;
use crate::config::key::Key;

/// A zone of the configuration.
pub struct Zone {
    pub name: ngx_str_t,
    /// as written in the configuration; compared on reload
    pub key_text: ngx_str_t,
    pub key: Key,
    pub size_bytes: usize,
    /// set when the shared memory exists
    pub table: OnceCell<Table>,
    /// the file that stores its counters
    pub(in crate::config) state: Option<PathBuf>,
    /// a second with at least this CPU counts as active, in nanoseconds
    pub active_threshold_ns: u64,
    /// run-time state of the table and of the state file
    pub attached: Attached,
}

impl Zone {
    /// Its accounts; `None` until the shared memory exists.
    #[inline]
    pub fn table(&self) -> Option<Table> {
        self.table.get().copied()
    }

    /// The path of its state file, if it has one. The path is not a symbolic link.
    pub fn state_path(&self) -> Option<&Path> {
        self.state.as_deref()
    }
}
