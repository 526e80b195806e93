//! How the limits on an account count CPU.

pub use formats::classes::DRY_RUN;

use super::times::MAX_BUCKETS;

/// How the limits on an account count CPU. All of it is in the account's `cpu_ns`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// No limit has checked it, or there is one limit only: it counts in all buckets.
    #[default]
    Used,
    /// The limit of this bucket has checked it: it counts there.
    Checked(u8),
    /// A refused request's: it is in no debt. Otherwise a key that keeps asking would be refused for ever. So is
    /// what a request has used that ended before limits are checked, if it would be in debt.
    Refused,
    /// Of a request that a limit with `dry_run` would have refused. It is in no debt either: so the debt is what it
    /// were if such requests were refused.
    RefusedDryRun,
}

/// CPU that not all buckets of an account count, in nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// all of it
    pub(super) total_ns: u64,
    /// refused requests', as [`DRY_RUN`]
    pub(crate) refused_ns: [u64; DRY_RUN.len()],
    /// what limits have checked, by bucket; less what was charged before
    pub(super) by_bucket_ns: [i64; MAX_BUCKETS],
}

impl Apart {
    /// Of refused requests only, as [`DRY_RUN`].
    pub fn refused(refused_ns: [u64; DRY_RUN.len()]) -> Apart {
        Apart { total_ns: refused_ns.iter().sum(), refused_ns, ..Apart::default() }
    }

    /// Adds CPU of a share that is not [`Share::Used`].
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

    /// A part of what a request has used was charged before, or is not used any more.
    #[inline]
    pub fn give_back(&mut self, bucket: u8, ns: u64) {
        self.add_to(bucket, -signed(ns));
    }

    pub(super) fn add_to(&mut self, bucket: u8, ns: i64) {
        if let Some(sum_ns) = self.by_bucket_ns.get_mut(usize::from(bucket)) {
            *sum_ns = sum_ns.saturating_add(ns);
        }
    }

    /// What a bucket counts of so much CPU, of which this is a part.
    #[inline]
    pub fn counted_ns(&self, bucket: usize, cpu_ns: u64) -> i64 {
        let checked_ns = self.by_bucket_ns.get(bucket).copied().unwrap_or(0);
        signed(cpu_ns.saturating_sub(self.total_ns)).saturating_add(checked_ns)
    }
}

pub(super) fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}
