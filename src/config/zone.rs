//! A zone: accounts by the values of a key.

use core::cell::OnceCell;
use std::path::{Path, PathBuf};

use accounting::table::Table;
use nginx_sys::ngx_str_t;

use crate::config::attached::Attached;
use crate::config::key::Key;

/// A zone of the configuration.
pub struct Zone {
    pub name: ngx_str_t,
    /// as written, to be compared on reload
    pub key_text: ngx_str_t,
    pub key: Key,
    pub size_bytes: usize,
    /// set when the shared memory is there
    pub table: OnceCell<Table>,
    /// the file that its counters are kept in
    pub(in crate::config) state: Option<PathBuf>,
    /// seconds with so much CPU count as active, in nanoseconds
    pub active_threshold_ns: u64,
    /// where the table is, and what becomes of the file
    pub attached: Attached,
}

impl Zone {
    /// Its accounts; `None` until the shared memory is there.
    #[inline]
    pub fn table(&self) -> Option<Table> {
        self.table.get().copied()
    }

    /// The path of its state file, if it has one. It is no symbolic link.
    pub fn state_path(&self) -> Option<&Path> {
        self.state.as_deref()
    }
}
