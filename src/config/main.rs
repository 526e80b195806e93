//! The configuration of the level `http`.

use core::cell::{Cell, OnceCell};
use core::ptr;
use std::rc::Rc;

use accounting::meter::Mode;

use crate::config::attached::Attached;
use crate::config::limit::LimitConf;
use crate::config::list::List;
use crate::config::log::Log;
use crate::config::place::Place;
use crate::config::status::StatusPlace;
use crate::config::zone::Zone;
use crate::config::zone_use::ZoneUse;
use crate::nginx::cycle::Cycle;
use crate::nginx::module::{Configuration, IN_MAIN, MainConfiguration};

/// The configuration of the level `http`. Its lists can be read once all directives have been read.
#[derive(Default)]
pub struct MainConf {
    pub(in crate::config) zones: List<Rc<Zone>>,
    /// one list for each place with `request_cpu`
    pub(in crate::config) uses: List<Rc<List<ZoneUse>>>,
    /// one list for each place with `request_cpu_limit`
    pub(in crate::config) limits: List<Rc<List<LimitConf>>>,
    pub(in crate::config) logs: Rc<List<Rc<Log>>>,
    pub(in crate::config) clock: OnceCell<Mode>,
    /// the zones of the first location whose configuration was merged; null if the location has none
    zones_somewhere: OnceCell<*const List<ZoneUse>>,
    ways_differ: Cell<bool>,
    measured: Cell<bool>,
    connection_variable: Cell<bool>,
    pub(in crate::config) places: List<Place>,
    pub(in crate::config) statuses: List<StatusPlace>,
    /// the run-time state of this configuration
    pub attached: Attached,
}

// SAFETY: `create_main_conf` makes it for `http`, and no other value is made there.
unsafe impl Configuration for MainConf {
    const OFFSET: usize = IN_MAIN;
}

// SAFETY: as above; all members that change are cells.
unsafe impl MainConfiguration for MainConf {}

impl MainConf {
    /// All zones, in the order of the configuration.
    pub fn zones(&self) -> impl ExactSizeIterator<Item = &Zone> + Clone {
        self.zones.as_slice().iter().map(Rc::as_ref)
    }

    /// All logs.
    pub fn logs(&self) -> impl ExactSizeIterator<Item = &Log> + Clone {
        self.logs.as_slice().iter().map(Rc::as_ref)
    }

    /// All logs, as a list that can be kept.
    pub fn list_of_logs(&self) -> &Rc<List<Rc<Log>>> {
        &self.logs
    }

    /// Whether there is any limit.
    pub fn has_limits(&self) -> bool {
        !self.limits.as_slice().is_empty()
    }

    /// The limits of a location, by index ([`LocConf::limits_place`](super::location::LocConf::limits_place)).
    pub fn limits_of(&self, place: u16) -> &[LimitConf] {
        self.limits.as_slice().get(usize::from(place)).map_or(&[], |limits| limits.as_slice())
    }

    /// The limits of all locations.
    pub fn limits(&self) -> impl Iterator<Item = &LimitConf> {
        self.limits.as_slice().iter().flat_map(|limits| limits.as_slice())
    }

    /// The clock that measures laps.
    pub fn clock(&self) -> Mode {
        self.clock.get().copied().unwrap_or_default()
    }

    /// Whether any part of this module is used, so that requests must be measured.
    pub fn is_measured(&self) -> bool {
        self.measured.get()
    }

    /// Whether the clock must be read when a request takes over CPU from its connection.
    pub fn has_connection_variable(&self) -> bool {
        self.connection_variable.get()
    }

    /// Whether the result depends on the locations that a request goes through: the locations have different zones, or
    /// one has `post_action`.
    pub fn ways_differ(&self) -> bool {
        self.ways_differ.get()
    }

    /// Notes the zones of a location, and whether it has `post_action`.
    pub(in crate::config) fn note_way(&self, zones: Option<&Rc<List<ZoneUse>>>, has_post_action: bool) {
        let zones = zones.map_or(ptr::null(), Rc::as_ptr);
        let somewhere = *self.zones_somewhere.get_or_init(|| zones);
        self.ways_differ.set(self.ways_differ.get() || has_post_action || somewhere != zones);
    }

    /// Called when all directives have been read. `any` tells whether any variable of the module is used, `connection`
    /// whether the variable of the connection is used.
    pub fn set_use_of_variables(&self, any: bool, connection: bool) {
        self.connection_variable.set(connection);
        self.measured.set(any || !self.uses.as_slice().is_empty() || self.has_limits());
    }
}

/// The configuration of a cycle at the level `http`. None without `http`, or if the cycle does not use this copy of
/// the module.
pub fn main_conf(cycle: Cycle<'_>) -> Option<&MainConf> {
    cycle.http_main_conf()
}

/// Calls `f` with the configuration in use, if there is one.
pub fn with_running<R>(f: impl FnOnce(Option<&MainConf>) -> R) -> R {
    Cycle::with_running(|cycle| f(cycle.and_then(main_conf)))
}
