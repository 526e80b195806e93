//! How the limits of an account count CPU.

pub use formats::classes::DRY_RUN;

use super::times::MAX_BUCKETS;

/// How the limits of an account count CPU. All CPU is in the account's `cpu_ns`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// No limit has checked the request, or the account has only one limit: the CPU counts in all buckets.
    #[default]
    Used,
    /// The limit of this bucket has checked the request: the CPU counts there.
    Checked(u8),
    /// CPU of a refused request does not add to the debt. Otherwise a key that keeps sending requests would be
    /// refused for ever. The same is true for a request that ended before limits are checked, if it would be in debt.
    Refused,
    /// CPU of a request that a limit with `dry_run` would have refused. It does not add to the debt either. So the
    /// debt is the same as if such requests were refused.
    RefusedDryRun,
}

/// CPU that counts only in some buckets of an account, in nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// the sum of all parts
    pub(super) total_ns: u64,
    /// CPU of refused requests, by [`DRY_RUN`]
    pub(crate) refused_ns: [u64; DRY_RUN.len()],
    /// CPU of checked requests, by bucket, less what was charged at the check
    pub(super) by_bucket_ns: [i64; MAX_BUCKETS],
}

impl Apart {
    /// CPU of refused requests only, by [`DRY_RUN`].
    pub fn refused(refused_ns: [u64; DRY_RUN.len()]) -> Apart {
        Apart { total_ns: refused_ns.iter().sum(), refused_ns, ..Apart::default() }
    }

    /// Adds CPU with a share other than [`Share::Used`].
    #[inline]
    pub fn add(&mut self, share: Share, ns: u64) {
        match share {
            Share::Used => return,
            Share::Checked(bucket) => self.add_to(bucket, signed(ns)),
            Share::Refused => self.refused_ns[0] += ns,
            Share::RefusedDryRun => self.refused_ns[1] += ns,
        }
        self.total_ns += ns;
    }

    /// Takes back CPU that was charged when the request was admitted.
    #[inline]
    pub fn give_back(&mut self, bucket: u8, ns: u64) {
        self.add_to(bucket, -signed(ns));
    }

    pub(super) fn add_to(&mut self, bucket: u8, ns: i64) {
        if let Some(sum_ns) = self.by_bucket_ns.get_mut(usize::from(bucket)) {
            *sum_ns = sum_ns.saturating_add(ns);
        }
    }

    /// The part of this CPU that a bucket counts.
    #[inline]
    pub fn counted_ns(&self, bucket: usize, cpu_ns: u64) -> i64 {
        let checked_ns = self.by_bucket_ns.get(bucket).copied().unwrap_or(0);
        signed(cpu_ns.saturating_sub(self.total_ns)).saturating_add(checked_ns)
    }
}

pub(super) fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}
