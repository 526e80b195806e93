//! Places with a configuration of this module. They are kept until the whole configuration has been read.

use core::ffi::c_void;
use std::rc::Rc;

use crate::config::list::List;
use crate::config::zone_use::ZoneUse;

/// A location, an `if` in a location, or the configuration of a server itself. `merge_loc_conf` is called for all of
/// them, and knows the server (`ngx_http_merge_servers`). Later, the locations are only in the trees that NGINX
/// builds.
pub struct Place {
    /// identifies the server of the place
    pub server: *const c_void,
    /// identifies the place
    pub location: *const c_void,
    pub uses: Option<Rc<List<ZoneUse>>>,
    /// see [`LocConf`](super::location::LocConf)
    pub in_status: bool,
}

impl Place {
    /// The zones in which requests are counted here.
    pub fn zones(&self) -> &[ZoneUse] {
        self.uses.as_ref().map_or(&[], |uses| uses.as_slice())
    }
}
