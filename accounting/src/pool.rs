//! CPU that several requests have used together, and that is divided among them.

/// Time that is divided by weights, without a rest.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// nanoseconds of CPU that are not given away yet
    pub ns: u64,
    /// of all that have not got their part yet
    pub weight: u64,
}

impl Pool {
    /// The part of one that has this weight, in nanoseconds. Who has all the weight that is left gets all the time
    /// that is left.
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
