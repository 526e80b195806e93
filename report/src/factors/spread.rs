//! Percentiles in little memory. The memory grows with the spread of the values, not with their number.

/// Bits that are kept of a number below its first one: a percentile is right to 1 %.
const BITS: u32 = 7;

/// Numbers of requests by approximate CPU time, in the order of the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread(Vec<(u16, u32)>);

impl Spread {
    /// Adds a request.
    pub fn record(&mut self, ns: u64) {
        self.count(bucket(ns), 1);
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(bucket, count)| self.count(*bucket, *count));
    }

    fn count(&mut self, bucket: u16, more: u32) {
        match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => {
                if let Some((_, count)) = self.0.get_mut(at) {
                    *count = count.saturating_add(more);
                }
            }
            Err(at) => self.0.insert(at, (bucket, more)),
        }
    }

    /// Nanoseconds that 50, 95 and 99 % of the requests do not exceed, to 1 %; none without requests.
    pub fn percentiles_ns(&self) -> Option<[u64; 3]> {
        let all: u64 = self.0.iter().map(|(_, count)| u64::from(*count)).sum();
        let value = |percent: u64| {
            let wanted = (u128::from(all) * u128::from(percent)).div_ceil(100);
            let mut sum = 0_u128;
            let found = self.0.iter().find(|(_, count)| {
                sum += u128::from(*count);
                sum >= wanted
            });
            found.map_or(0, |(bucket, _)| middle(*bucket))
        };
        (all > 0).then(|| [50, 95, 99].map(value))
    }
}

/// Numbers with the same first bits have the same place.
fn bucket(ns: u64) -> u16 {
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(BITS + 1);
    ((shift << BITS) + (ns >> shift) as u32) as u16
}

/// The number in the middle of those that have this place.
fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let shift = (bucket >> BITS).saturating_sub(1);
    let first = (bucket - (shift << BITS)) << shift;
    first + ((1_u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_percentile_is_right_to_a_hundredth(
            values in prop::collection::vec(any::<u64>(), 1..200),
            shift in 0..64_u32,
        ) {
            let mut values: Vec<u64> = values.into_iter().map(|value| value >> shift).collect();
            let (mut one, mut two) = (Spread::default(), Spread::default());
            for (at, value) in values.iter().enumerate() {
                if at % 3 == 0 { one.record(*value) } else { two.record(*value) }
            }
            one.add(&two);
            values.sort_unstable();
            for (found, percent) in one.percentiles_ns().unwrap().into_iter().zip([50, 95, 99]) {
                let exact = values[(values.len() * percent).div_ceil(100) - 1];
                prop_assert!((found as f64 - exact as f64).abs() <= exact as f64 * 0.01, "{} {}", found, exact);
            }
        }
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(Spread::default().percentiles_ns(), None);
    }
}
