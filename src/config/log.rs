//! A traffic log.

use core::cell::OnceCell;
use std::rc::Rc;

use nginx_sys::ngx_str_t;

use crate::config::attached::Attached;
use crate::config::zone::Zone;
use crate::nginx::conf::Place;
use crate::nginx::file::OpenFile;

/// A traffic log of the configuration.
pub struct Log {
    pub file: OpenFile,
    pub zone_name: ngx_str_t,
    pub interval_ms: u64,
    pub(in crate::config) place: Place,
    pub(in crate::config) zone: OnceCell<Rc<Zone>>,
    /// the writer of the log
    pub attached: Attached,
}

impl Log {
    /// The full name of the file.
    pub fn path(&self) -> ngx_str_t {
        self.file.name()
    }

    /// Its zone, once the whole configuration has been read.
    pub fn zone(&self) -> Option<&Zone> {
        self.zone.get().map(|zone| &**zone)
    }
}
