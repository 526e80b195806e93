//! Statistics of some requests: their number, their CPU, the mean with its margin, and percentiles.

use hdrhistogram::Histogram;

use super::spread::Spread;

/// The first range of a histogram, in nanoseconds: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// A value of a histogram is right to 1 %. A histogram is 18 KB.
const DIGITS: u8 = 2;

/// The 97.5th percentile of the normal distribution: a mean is within so many standard errors with 95 %.
const NORMAL_95: f64 = 1.959_964;

/// The CPU of some requests. All sums are whole numbers, so the order of additions does not matter.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// how many
    pub requests: u64,
    /// nanoseconds of all requests together
    pub cpu_ns: u64,
    squares: u128,
    spread: Option<Histogram<u32>>,
}

impl Cell {
    /// Adds a request.
    pub fn record(&mut self, cpu_ns: u64) {
        self.sum(cpu_ns);
        if self.spread.is_none() {
            // the bounds are constant, and fit
            self.spread = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).ok();
            // it grows if it has to
            self.spread.iter_mut().for_each(|spread| spread.auto(true));
        }
        if let Some(spread) = &mut self.spread {
            // 2^62 ns are 146 years
            let cpu_ns = cpu_ns.min(1 << 62);
            if spread.record(cpu_ns).is_err() {
                spread.saturating_record(cpu_ns);
            }
        }
    }

    fn sum(&mut self, cpu_ns: u64) {
        self.requests += 1;
        self.cpu_ns = self.cpu_ns.saturating_add(cpu_ns);
        self.squares = self.squares.saturating_add(square(cpu_ns, cpu_ns));
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.cpu_ns = self.cpu_ns.saturating_add(other.cpu_ns);
        self.squares = self.squares.saturating_add(other.squares);
        match (&mut self.spread, &other.spread) {
            // both have the same bounds
            (Some(spread), Some(other)) => drop(spread.add(other)),
            (spread @ None, Some(other)) => *spread = Some(other.clone()),
            (_, None) => {}
        }
    }

    /// The mean in nanoseconds; none without requests.
    pub fn mean_ns(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.cpu_ns as f64 / self.requests as f64)
    }

    /// Half the width of the 95 % confidence interval of the mean. None for less than two requests. Requests
    /// count as independent.
    pub fn margin_ns(&self) -> Option<f64> {
        let n = self.requests as f64;
        let mean = self.mean_ns().filter(|_| self.requests > 1)?;
        let variance = (self.squares as f64 - self.cpu_ns as f64 * mean).max(0.0) / (n - 1.0);
        Some(NORMAL_95 * (variance / n).sqrt())
    }

    /// Nanoseconds that 50, 95 and 99 % of the requests do not exceed, to 1 %; none without requests.
    pub fn percentiles_ns(&self) -> Option<[u64; 3]> {
        let spread = self.spread.as_ref().filter(|spread| !spread.is_empty())?;
        Some([50.0, 95.0, 99.0].map(|percent| spread.value_at_percentile(percent)))
    }
}

/// Like [`Cell`], with a [`Spread`], for many values of a variable.
#[derive(Clone, Debug, Default)]
pub struct SmallCell {
    /// all but the percentiles: it has no histogram
    pub sums: Cell,
    /// where the percentiles come from
    pub spread: Spread,
}

impl SmallCell {
    /// Adds a request.
    pub fn record(&mut self, cpu_ns: u64) {
        self.sums.sum(cpu_ns);
        self.spread.record(cpu_ns);
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.sums.add(&other.sums);
        self.spread.add(&other.spread);
    }
}

/// CPU and bytes of some requests, and the ratio of their sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ratio {
    /// how many
    pub requests: u64,
    /// nanoseconds of all requests together
    pub cpu_ns: u64,
    /// bytes of all requests together
    pub bytes: u64,
    cpu_squares: u128,
    byte_squares: u128,
    products: u128,
}

impl Ratio {
    /// Adds a request.
    pub fn record(&mut self, cpu_ns: u64, bytes: u64) {
        self.add(&Self {
            requests: 1,
            cpu_ns,
            bytes,
            cpu_squares: square(cpu_ns, cpu_ns),
            byte_squares: square(bytes, bytes),
            products: square(cpu_ns, bytes),
        });
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.cpu_ns = self.cpu_ns.saturating_add(other.cpu_ns);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.cpu_squares = self.cpu_squares.saturating_add(other.cpu_squares);
        self.byte_squares = self.byte_squares.saturating_add(other.byte_squares);
        self.products = self.products.saturating_add(other.products);
    }

    /// CPU seconds per GB (10^9 bytes), which is nanoseconds per byte; none without bytes.
    pub fn seconds_per_gb(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.cpu_ns as f64 / self.bytes as f64)
    }

    /// Half the width of its 95 % interval, by the usual estimate for a ratio of two sums; none of less than
    /// two requests.
    pub fn margin(&self) -> Option<f64> {
        let ratio = self.seconds_per_gb().filter(|_| self.requests > 1)?;
        let n = self.requests as f64;
        // the sum of (cpu - ratio * bytes)^2
        let squares = self.cpu_squares as f64 - 2.0 * ratio * self.products as f64
            + ratio * ratio * self.byte_squares as f64;
        Some(NORMAL_95 * (squares.max(0.0) * n / (n - 1.0)).sqrt() / self.bytes as f64)
    }
}

fn square(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cell(values: &[u64]) -> Cell {
        let mut cell = Cell::default();
        values.iter().for_each(|value| cell.record(*value));
        cell
    }

    #[test]
    fn mean_and_margin_are_those_of_a_calculation_by_hand() {
        // deviations 3, 1, 1, 3: variance 20 / 3, standard error sqrt(20 / 3 / 4) = 1.29099
        let four = cell(&[2, 4, 6, 8]);
        assert_eq!((four.requests, four.cpu_ns, four.mean_ns()), (4, 20, Some(5.0)));
        assert!((four.margin_ns().unwrap() - 1.959964 * 1.2909944).abs() < 1e-6);
        assert_eq!(cell(&[7]).margin_ns(), None);
        assert_eq!(cell(&[7, 7, 7]).margin_ns(), Some(0.0));
        assert_eq!((Cell::default().mean_ns(), Cell::default().percentiles_ns()), (None, None));
    }

    #[test]
    fn percentiles_are_right_to_a_hundredth() {
        let values: Vec<u64> = (1..=1000).map(|n| n * 1000).collect();
        let cell = cell(&values);
        for (found, expected) in
            cell.percentiles_ns().unwrap().into_iter().zip([500_000.0, 950_000.0, 990_000.0])
        {
            assert!((found as f64 / expected - 1.0).abs() < 0.01, "{found} {expected}");
        }
    }

    #[test]
    fn a_ratio_and_its_margin_are_those_of_a_calculation_by_hand() {
        let mut ratio = Ratio::default();
        ratio.record(10, 1);
        ratio.record(20, 3);
        assert_eq!(ratio.seconds_per_gb(), Some(7.5));
        // residuals 2.5 and -2.5: sqrt(12.5 * 2 / 1) / 4 = 1.25
        assert!((ratio.margin().unwrap() - 1.959964 * 1.25).abs() < 1e-9);
        let mut nothing = Ratio::default();
        nothing.record(5, 0);
        assert_eq!((nothing.seconds_per_gb(), nothing.margin()), (None, None));
    }

    proptest! {
        #[test]
        fn the_order_and_the_grouping_make_no_difference(
            values in prop::collection::vec(any::<u64>(), 0..40), at in any::<prop::sample::Index>(),
        ) {
            let whole = cell(&values);
            let at = if values.is_empty() { 0 } else { at.index(values.len()) };
            let mut parts = cell(&values[at..]);
            parts.add(&cell(&values[..at]));
            prop_assert_eq!(
                (whole.requests, whole.cpu_ns, whole.squares),
                (parts.requests, parts.cpu_ns, parts.squares),
            );
            prop_assert_eq!(whole.percentiles_ns(), parts.percentiles_ns());
            prop_assert!(whole.margin_ns().is_none_or(f64::is_finite));
        }
    }
}
