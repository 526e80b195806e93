//! The configuration of a location, and its inheritance.

use core::cell::{Cell, OnceCell};
use core::ffi::c_void;
use std::rc::Rc;

use accounting::account_set::AccountSet;
use nginx_sys::ngx_uint_t;

use crate::config::limit::{LimitAccounts, LimitConf};
use crate::config::list::List;
use crate::config::main::MainConf;
use crate::config::place::Place;
use crate::config::status::{StatusConf, StatusPlace};
use crate::config::zone_use::ZoneUse;
use crate::nginx::conf::{Conf, Failed, Inherit};
use crate::nginx::location;
use crate::nginx::module::{Configuration, IN_LOCATION, LocationConfiguration};
use crate::nginx::request::Request;

/// The configuration of a location. An empty list means that the list is inherited, or that there is none.
#[derive(Default)]
pub struct LocConf {
    pub(in crate::config) uses: OnceCell<Rc<List<ZoneUse>>>,
    pub(in crate::config) off: Cell<bool>,
    pub status: Cell<StatusConf>,
    /// whether this location has `request_cpu_status`, or is inside a location that has it
    in_status: Cell<bool>,
    pub(in crate::config) limits: OnceCell<Rc<List<LimitConf>>>,
    pub(in crate::config) limits_place: Cell<u16>,
    pub(in crate::config) limits_off: Cell<bool>,
    limits_spare_status: Cell<bool>,
    pub(in crate::config) limit_log_level: Cell<Option<ngx_uint_t>>,
    /// As `known`, but the accounts for the limits.
    pub limit_accounts: OnceCell<(*mut *mut c_void, LimitAccounts)>,
    /// The accounts of all requests in this location, and the `srv_conf` of their server, if only the server
    /// determines the accounts. Each worker sets its own copy.
    pub known: OnceCell<(*mut *mut c_void, AccountSet)>,
}

// SAFETY: `create_loc_conf` makes it for each location, and no other value is made there.
unsafe impl Configuration for LocConf {
    const OFFSET: usize = IN_LOCATION;
}

// SAFETY: as above; all members that change are cells.
unsafe impl LocationConfiguration for LocConf {}

impl LocConf {
    /// The zones in which a request is counted.
    #[inline]
    pub fn zones(&self) -> &[ZoneUse] {
        self.uses.get().map_or(&[], |uses| uses.as_slice())
    }

    /// The limits against which a request is checked.
    #[inline]
    pub fn limits(&self) -> &[LimitConf] {
        self.limits.get().map_or(&[], |limits| limits.as_slice())
    }

    /// The index of these limits, see [`MainConf::limits_of`].
    #[inline]
    pub fn limits_place(&self) -> u16 {
        self.limits_place.get()
    }

    /// Whether requests that read the status are not checked: the limits were inherited from a level above the status
    /// location.
    #[inline]
    pub fn limits_spare_status(&self) -> bool {
        self.limits_spare_status.get()
    }

    /// The level at which refusals are logged; none means the default.
    #[inline]
    pub fn limit_log_level(&self) -> Option<ngx_uint_t> {
        self.limit_log_level.get()
    }
}

impl Inherit for LocConf {
    fn merge(&self, cf: &mut Conf<'_>, above: &LocConf) -> Result<(), Failed> {
        if self.uses.get().is_none() && !self.off.get() {
            if let Some(uses) = above.uses.get() {
                let _ = self.uses.set(uses.clone());
            }
            self.off.set(above.off.get());
        }
        let status = self.status.get();
        if self.limits.get().is_none() && !self.limits_off.get() {
            if let Some(limits) = above.limits.get() {
                let _ = self.limits.set(limits.clone());
            }
            self.limits_place.set(above.limits_place.get());
            self.limits_off.set(above.limits_off.get());
            self.limits_spare_status.set(status.is_set || above.limits_spare_status.get());
        }
        self.in_status.set(status.is_set || above.in_status.get());
        if !status.is_set {
            // This is for an `if` in the location. It has its own configuration, but the handler of the location
            // (`ngx_http_update_location_config`). Other locations have other handlers.
            self.status.set(StatusConf { is_set: false, place: None, ..above.status.get() });
        }
        self.limit_log_level.set(self.limit_log_level.get().or(above.limit_log_level.get()));
        let has_post_action = cf.has_post_action();
        let main: &MainConf = cf.main_conf().ok_or(Failed)?;
        main.note_way(self.uses.get(), has_post_action);
        let place = Place {
            server: cf.server(),
            location: (&raw const *self).cast(),
            uses: self.uses.get().cloned(),
            in_status: self.in_status.get(),
        };
        main.places.push(place);
        if let Some(place) = status.place {
            main.statuses.push(StatusPlace { server: cf.server(), location: cf.location(), place });
        }
        Ok(())
    }
}

/// The module's configuration of the location that a request is in.
#[inline]
pub fn loc_conf(r: Request<'_>) -> &LocConf {
    location::configuration(r)
}
