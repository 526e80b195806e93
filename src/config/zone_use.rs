//! The zones that a place names.

use core::cell::{Cell, OnceCell};
use std::rc::Rc;

use nginx_sys::ngx_str_t;

use crate::config::zone::Zone;
use crate::nginx::conf::{Conf, Place};
use crate::nginx::text::text;

/// A zone that a `request_cpu` or a `request_cpu_limit` names; its place is known when the whole configuration
/// has been read.
pub struct ZoneUse {
    pub name: ngx_str_t,
    pub(in crate::config) place: Place,
    /// in [`MainConf::zones`](super::main::MainConf::zones)
    index: Cell<usize>,
    zone: OnceCell<Rc<Zone>>,
}

impl ZoneUse {
    /// As the directive that is being read names it.
    pub(in crate::config) fn named(cf: &Conf<'_>, name: &[u8]) -> ZoneUse {
        ZoneUse { name: text(name), place: cf.place(), index: Cell::new(usize::MAX), zone: OnceCell::new() }
    }

    /// The zone was found, at this place in [`MainConf::zones`](super::main::MainConf::zones).
    pub(in crate::config) fn set(&self, index: usize, zone: &Rc<Zone>) {
        self.index.set(index);
        // called once
        let _ = self.zone.set(zone.clone());
    }

    /// The place of the zone in [`MainConf::zones`](super::main::MainConf::zones), once the whole configuration
    /// has been read.
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
