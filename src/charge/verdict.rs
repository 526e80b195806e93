//! The result of a request's limits.

use core::cell::Cell;
use core::ops::Deref;
use core::ptr::NonNull;

use accounting::limit::Share;

use crate::config::main::{MainConf, with_running};
use crate::nginx::connection::Receive;
use crate::nginx::hook::Hook;
use crate::nginx::request::Request;
use accounting::account_set::MAX_ZONES_PER_REQUEST;
use accounting::account_set::{AccountId, AccountSet};

/// The values of `$request_cpu_limit_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Passed,
    Rejected,
    RejectedDryRun,
}

/// The result of all limits for a request. The type is small, since every request has one.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// none: the request was not checked, or no limit applies
    pub status: Option<Status>,
    /// the limits that would have refused the request, as bits
    pub dry_run: u8,
    /// the limits, as an index for [`MainConf::limits`]
    pub limits: u16,
    /// the limits of its accounts may count its usage in different ways
    pub apart: bool,
}

const _: () = assert!(MAX_ZONES_PER_REQUEST <= u8::BITS as usize);

impl Verdict {
    /// No limit applies.
    pub const NONE: Verdict = Verdict { status: None, dry_run: 0, limits: 0, apart: false };

    /// The verdict of a request that has not reached the preaccess phase.
    pub fn first(main: &MainConf) -> Verdict {
        Verdict { apart: main.has_limits(), ..Verdict::NONE }
    }

    /// Whether the limits of its accounts may count the request's usage in different ways.
    #[inline]
    pub fn sets_apart(&self) -> bool {
        self.apart
    }

    /// Whether limits exist, and the request has not reached the phase in which they are checked.
    #[inline]
    pub fn is_unchecked(&self) -> bool {
        self.apart && self.status.is_none()
    }

    /// Sets the share of the request's CPU in each of its accounts.
    #[inline]
    pub fn mark(&self, limited: Option<&Limited>, accounts: &mut AccountSet) {
        if self.apart && self.status.is_some() {
            self.set_shares(limited, accounts);
        }
    }

    #[inline(never)]
    fn set_shares(&self, limited: Option<&Limited>, accounts: &mut AccountSet) {
        // the configuration of the cycle that this worker serves
        with_running(|main| {
            let limits = main.map_or(&[][..], |main| main.limits_of(self.limits));
            let would_refuse = |zone| {
                limits
                    .iter()
                    .enumerate()
                    .any(|(n, limit)| self.dry_run >> n & 1 != 0 && limit.used.index() == zone)
            };
            accounts.set_shares(|id| match self.status {
                Some(Status::Rejected) => Share::Refused,
                _ if would_refuse(id.zone()) => Share::RefusedDryRun,
                // A key that is known later may have another account than the checked one.
                _ => limited
                    .and_then(|limited| {
                        limited.charges.iter().filter_map(Cell::get).find(|charge| charge.id.is_same(id))
                    })
                    .map_or(Share::Used, |charge| Share::Checked(charge.bucket)),
            });
        });
    }
}

/// Data that only some limited requests need. It changes through cells only.
pub struct Limited {
    /// One for each limit. None if the account has no other limit and nothing was charged in advance.
    pub charges: [Cell<Option<Charge>>; MAX_ZONES_PER_REQUEST],
    /// set for a refused request whose body is not read
    pub dropped: Dropped,
}

/// The CPU that a limit has charged to its bucket in advance, when it admitted a request.
#[derive(Clone, Copy)]
pub struct Charge {
    pub id: AccountId,
    pub bucket: u8,
    /// the rest of it, in nanoseconds of CPU
    pub ns: u64,
}

/// The state of an HTTP/1 connection that is closed after the answer.
pub struct Dropped {
    pub is_dropped: Cell<bool>,
    /// the original `recv` function of the connection
    pub recv: Hook<Receive>,
    /// number of bytes that may still be read
    pub left: Cell<usize>,
}

/// The [`Limited`] of a request, in the request's pool. No value is kept for longer than the request lives.
#[derive(Clone, Copy)]
pub struct LimitedRef(NonNull<Limited>);

impl LimitedRef {
    /// Makes the [`Limited`] of a request. `None` if there is no memory: the advance charge is not given back then.
    #[cold]
    #[inline(never)]
    pub fn of(r: Request<'_>) -> Option<LimitedRef> {
        let limited = r.pool()?.put(|| Limited {
            charges: [const { Cell::new(None) }; MAX_ZONES_PER_REQUEST],
            dropped: Dropped { is_dropped: Cell::new(false), recv: Hook::new(), left: Cell::new(0) },
        });
        limited.map(LimitedRef)
    }
}

impl Deref for LimitedRef {
    type Target = Limited;

    #[inline]
    fn deref(&self) -> &Limited {
        // SAFETY: `of` has made it in the pool of a request that has not been freed. It changes through cells only.
        unsafe { self.0.as_ref() }
    }
}
