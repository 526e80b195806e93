//! A limit of a place.

use accounting::account_set::{AccountId, MAX_ZONES_PER_REQUEST};
use accounting::limit::{Limit, LimitId};
use nginx_sys::{ngx_http_complex_value_t, ngx_uint_t};

use crate::config::zone_use::ZoneUse;

/// The accounts that a location's limits look at; none where the key is empty.
pub type LimitAccounts = [Option<AccountId>; MAX_ZONES_PER_REQUEST];

/// A `request_cpu_limit`.
pub struct LimitConf {
    pub used: ZoneUse,
    pub cores: Cores,
    /// tells it apart from other limits of the zone
    pub id: LimitId,
    /// milliseconds of CPU; none: what `cores` bring in a second
    pub burst_ms: Option<u64>,
    /// milliseconds of CPU; none: a debt has no bound
    pub max_debt_ms: Option<u64>,
    /// what a refused request is answered with
    pub status: ngx_uint_t,
    pub dry_run: bool,
}

/// The rate of a limit.
pub enum Cores {
    Constant(Limit),
    Variable(ngx_http_complex_value_t),
}
