//! The use of a zone by a directive.

use core::cell::{Cell, OnceCell};
use std::rc::Rc;

use nginx_sys::ngx_str_t;

use crate::config::zone::Zone;
use crate::nginx::conf::{Conf, Place};
use crate::nginx::text::text;

/// A zone that a `request_cpu` or a `request_cpu_limit` names. Its index is known when the whole configuration has
/// been read.
pub struct ZoneUse {
    pub name: ngx_str_t,
    pub(in crate::config) place: Place,
    /// index in [`MainConf::zones`](super::main::MainConf::zones)
    index: Cell<usize>,
    zone: OnceCell<Rc<Zone>>,
}

impl ZoneUse {
    /// The use of the zone `name` by the directive that is being read.
    pub(in crate::config) fn named(cf: &Conf<'_>, name: &[u8]) -> ZoneUse {
        ZoneUse { name: text(name), place: cf.place(), index: Cell::new(usize::MAX), zone: OnceCell::new() }
    }

    /// Sets the zone and its index in [`MainConf::zones`](super::main::MainConf::zones).
    pub(in crate::config) fn set(&self, index: usize, zone: &Rc<Zone>) {
        self.index.set(index);
        // this is called once
        let _ = self.zone.set(zone.clone());
    }

    /// The index of the zone in [`MainConf::zones`](super::main::MainConf::zones), once the whole configuration has
    /// been read.
    #[inline]
    pub fn index(&self) -> usize {
        self.index.get()
    }

    /// The zone, once the whole configuration has been read.
    #[inline]
    pub fn zone(&self) -> Option<&Zone> {
        self.zone.get().map(|zone| &**zone)
    }
}
