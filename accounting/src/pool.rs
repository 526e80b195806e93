//! CPU that several requests have used together, and its division among them.

/// Time that is divided by weights, without a remainder.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// nanoseconds of CPU that are not given out yet
    pub ns: u64,
    /// the sum of the weights of requests that have not got their part yet
    pub weight: u64,
}

impl Pool {
    /// The part for this weight, in nanoseconds. The last request gets all the remaining time.
    #[inline]
    pub fn share(&mut self, weight: u64) -> u64 {
        let weight = weight.min(self.weight);
        if weight == 0 {
            return 0;
        }
        let part = u128::from(self.ns) * u128::from(weight) / u128::from(self.weight);
        // not more than `ns`, since `weight` is not more than all
        let ns = u64::try_from(part).unwrap_or(self.ns);
        self.ns -= ns;
        self.weight -= weight;
        ns
    }
}

#[cfg(test)]
mod tests;
