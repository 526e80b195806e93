//! A limit of a location.

use accounting::account_set::{AccountId, MAX_ZONES_PER_REQUEST};
use accounting::limit::{Limit, LimitId};
use nginx_sys::{ngx_http_complex_value_t, ngx_uint_t};

use crate::config::zone_use::ZoneUse;

/// The accounts that a location's limits check; none for an empty key.
pub type LimitAccounts = [Option<AccountId>; MAX_ZONES_PER_REQUEST];

/// A `request_cpu_limit`.
pub struct LimitConf {
    pub used: ZoneUse,
    pub cores: Cores,
    /// identifies the limit among the limits of the zone
    pub id: LimitId,
    /// milliseconds of CPU; none: the CPU that `cores` allow in a second
    pub burst_ms: Option<u64>,
    /// milliseconds of CPU; none: the debt is unlimited
    pub max_debt_ms: Option<u64>,
    /// status of the answer to a refused request
    pub status: ngx_uint_t,
    pub dry_run: bool,
}

/// The rate of a limit.
pub enum Cores {
    Constant(Limit),
    Variable(ngx_http_complex_value_t),
}
