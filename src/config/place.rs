//! Places with a configuration of this module, as they are in mind until the whole configuration has been read.

use core::ffi::c_void;
use std::rc::Rc;

use crate::config::list::List;
use crate::config::zone_use::ZoneUse;

/// A location, an `if` in it, or what is set in a server itself. `merge_loc_conf` is called for all of them,
/// and knows the server (`ngx_http_merge_servers`): later, the locations are only in the trees that NGINX makes
/// of them.
pub struct Place {
    /// what the server is known by that it is in
    pub server: *const c_void,
    /// what it is known by itself
    pub location: *const c_void,
    pub uses: Option<Rc<List<ZoneUse>>>,
    /// see [`LocConf`](super::location::LocConf)
    pub in_status: bool,
}

impl Place {
    /// The zones that requests are counted in here.
    pub fn zones(&self) -> &[ZoneUse] {
        self.uses.as_ref().map_or(&[], |uses| uses.as_slice())
    }
}
