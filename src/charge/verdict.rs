//! The result of a request's limits.

use core::ptr::NonNull;

use accounting::limit::Share;
use nginx_sys::{ngx_http_request_t, ngx_palloc, ngx_recv_pt};

use crate::config::main::{MainConf, with_running};
use accounting::account_set::{AccountId, AccountSet, MAX_ZONES_PER_REQUEST};

/// The values of `$request_cpu_limit_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Passed,
    Rejected,
    RejectedDryRun,
}

/// What its limits have said to a request. It is small, since every request has one.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// none: it was not checked, or no limit applies
    pub status: Option<Status>,
    /// which of the limits would have refused it, as bits
    pub dry_run: u8,
    /// the limits, by their place in [`MainConf::limits`]
    pub limits: u16,
    /// what it uses may not be the same to all limits of its accounts
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

    /// Whether what the request uses may not be the same to all limits of its accounts.
    #[inline]
    pub fn sets_apart(&self) -> bool {
        self.apart
    }

    /// Whether there are limits, and the request has not got to where they are checked.
    #[inline]
    pub fn is_unchecked(&self) -> bool {
        self.apart && self.status.is_none()
    }

    /// Says what the request's CPU is to each of its accounts.
    #[inline]
    pub fn mark(&self, limited: Option<&Limited>, accounts: &mut AccountSet) {
        if self.apart && self.status.is_some() {
            self.set_shares(limited, accounts);
        }
    }

    #[inline(never)]
    fn set_shares(&self, limited: Option<&Limited>, accounts: &mut AccountSet) {
        // the cycle that this worker serves
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
                // A key that is known later may have another account than the one that was checked.
                _ => limited
                    .and_then(|limited| limited.charges.iter().flatten().find(|charge| charge.id.is_same(id)))
                    .map_or(Share::Used, |charge| Share::Checked(charge.bucket)),
            });
        });
    }
}

/// What few limited requests need; in the request's pool.
pub struct Limited {
    /// By limit: none where the account has no other limit, and nothing was charged.
    pub charges: [Option<Charge>; MAX_ZONES_PER_REQUEST],
    /// of a refused request whose body is not read
    pub dropped: Option<Dropped>,
}

/// What a limit has charged to its bucket when it let a request in.
#[derive(Clone, Copy)]
pub struct Charge {
    pub id: AccountId,
    pub bucket: u8,
    /// what is left of it, in nanoseconds of CPU
    pub ns: u64,
}

impl Limited {
    pub const NONE: Limited = Limited { charges: [None; MAX_ZONES_PER_REQUEST], dropped: None };

    pub fn charges(&mut self) -> impl Iterator<Item = &mut Charge> {
        self.charges.iter_mut().flatten()
    }

    /// That of a request, which is made in its pool if it is not there yet; none if there is no memory. What was charged is not given back
    /// then.
    ///
    /// # Safety
    /// `limited` must be none, or of this request, which has not been freed.
    #[cold]
    #[inline(never)]
    pub unsafe fn of(
        r: *mut ngx_http_request_t,
        limited: &mut Option<NonNull<Limited>>,
    ) -> Option<&mut Limited> {
        if limited.is_none() {
            // SAFETY: the request has a pool, which gives out memory that is aligned to a word (`NGX_ALIGNMENT`).
            let place = unsafe { ngx_palloc((*r).pool, size_of::<Limited>()) };
            let place = NonNull::new(place)?.cast::<Limited>();
            // SAFETY: as above.
            unsafe { place.write(Limited::NONE) };
            *limited = Some(place);
        }
        // SAFETY: as the caller says; only `limit::check` uses it, until the context has it.
        limited.as_mut().map(|limited| unsafe { limited.as_mut() })
    }
}

const _: () = assert!(align_of::<Limited>() <= align_of::<usize>());

/// A connection of HTTP/1 that is closed after the answer.
pub struct Dropped {
    /// what the connection's `recv` was before
    pub recv: ngx_recv_pt,
    /// as many bytes may still be read
    pub left: usize,
}

impl Dropped {
    pub const fn new(left: usize) -> Dropped {
        Dropped { recv: None, left }
    }
}

/// Whether the worker needs no `Drop`: all of this lies in pools.
const _: () = assert!(!core::mem::needs_drop::<Limited>());
