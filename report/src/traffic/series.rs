//! Numbers by slot or bucket of time, in as few bytes as they need.

/// The numbers in a page.
const PAGE: usize = 64;

/// A whole number per index. Most numbers are 0, and numbers other than 0 are often neighbours. Sums are
/// exact: a page gets wider numbers when one no longer fits. A page takes 24 bytes, and 4 bytes for each of
/// its 64 numbers if all are below 2^32, else 8, or 16 if one is 2^64 or more (584 years of nanoseconds). A
/// page with a single number takes only the 24 bytes.
#[derive(Debug, Default)]
pub struct Series {
    /// by number of the page
    pages: Vec<(u32, Page)>,
}

#[derive(Debug)]
enum Page {
    One { at: u8, value: u64 },
    Narrow(Box<[u32; PAGE]>),
    Wide(Box<[u64; PAGE]>),
    Widest(Box<[u128; PAGE]>),
}

impl Series {
    /// Adds to the number at `index`.
    pub fn add(&mut self, index: u32, value: u128) {
        if value == 0 {
            return;
        }
        let number = index / PAGE as u32;
        let at = (index % PAGE as u32) as u8;
        // logs go on in time, so it is nearly always the last page
        let found = match self.pages.last() {
            Some((last, _)) if *last == number => Ok(self.pages.len() - 1),
            Some((last, _)) if *last < number => Err(self.pages.len()),
            _ => self.pages.binary_search_by_key(&number, |(number, _)| *number),
        };
        match found {
            Ok(place) => {
                if let Some((_, page)) = self.pages.get_mut(place) {
                    page.add(at, value);
                }
            }
            Err(place) => {
                if self.pages.is_empty() {
                    self.pages.reserve_exact(1);
                }
                let mut page = Page::One { at, value: 0 };
                page.add(at, value);
                self.pages.insert(place, (number, page));
            }
        }
    }

    /// Raises the number at `index` to `value`, if it is lower.
    pub fn raise(&mut self, index: u32, value: u128) {
        self.add(index, value.saturating_sub(self.get(index)));
    }

    /// The numbers that are not zero, by index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u128)> {
        self.pages.iter().flat_map(|(number, page)| {
            (0..PAGE).filter_map(move |at| {
                let value = page.get(at);
                (value != 0).then(|| (number * PAGE as u32 + at as u32, value))
            })
        })
    }

    /// The number at `index`.
    pub fn get(&self, index: u32) -> u128 {
        let number = index / PAGE as u32;
        match self.pages.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(place) => {
                self.pages.get(place).map_or(0, |(_, page)| page.get((index % PAGE as u32) as usize))
            }
            Err(_) => 0,
        }
    }
}

impl Page {
    fn add(&mut self, at: u8, value: u128) {
        while !self.try_add(at, value) {
            *self = self.wider();
        }
    }

    /// Adds, and returns false if the sum does not fit.
    fn try_add(&mut self, at: u8, value: u128) -> bool {
        fn add<T: Copy + Into<u128> + TryFrom<u128>>(sum: &mut T, value: u128) -> bool {
            let wanted = (*sum).into().saturating_add(value);
            T::try_from(wanted).map(|fits| *sum = fits).is_ok()
        }
        let place = usize::from(at);
        match self {
            Self::One { at: same, value: sum } => *same == at && add(sum, value),
            Self::Narrow(page) => page.get_mut(place).is_none_or(|sum| add(sum, value)),
            Self::Wide(page) => page.get_mut(place).is_none_or(|sum| add(sum, value)),
            Self::Widest(page) => page.get_mut(place).is_none_or(|sum| add(sum, value)),
        }
    }

    /// The same numbers with room for larger ones.
    fn wider(&self) -> Self {
        match self {
            Self::One { value, .. } if u32::try_from(*value).is_ok() => {
                Self::Narrow(Box::new(std::array::from_fn(|at| self.get(at) as u32)))
            }
            Self::One { .. } | Self::Narrow(_) => {
                Self::Wide(Box::new(std::array::from_fn(|at| self.get(at) as u64)))
            }
            Self::Wide(_) | Self::Widest(_) => Self::Widest(Box::new(std::array::from_fn(|at| self.get(at)))),
        }
    }

    fn get(&self, at: usize) -> u128 {
        match self {
            Self::One { at: only, value } if usize::from(*only) == at => u128::from(*value),
            Self::One { .. } => 0,
            Self::Narrow(page) => page.get(at).map_or(0, |value| u128::from(*value)),
            Self::Wide(page) => page.get(at).map_or(0, |value| u128::from(*value)),
            Self::Widest(page) => page.get(at).copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_has_the_content_of_a_map(
            added in prop::collection::vec(
                (0u32..400, prop_oneof![0u128..10, Just(u128::from(u32::MAX)),
                    any::<u64>().prop_map(u128::from), any::<u128>()]), 0..200)
        ) {
            let mut series = Series::default();
            let mut map = BTreeMap::<u32, u128>::new();
            for (index, value) in added {
                series.add(index, value);
                let sum = map.entry(index).or_default();
                *sum = sum.saturating_add(value);
            }
            map.retain(|_, value| *value != 0);
            prop_assert_eq!(series.iter().collect::<Vec<_>>(), map.clone().into_iter().collect::<Vec<_>>());
            for index in 0..400 {
                prop_assert_eq!(series.get(index), map.get(&index).copied().unwrap_or(0));
            }
        }
    }

    proptest! {
        #[test]
        fn raised_numbers_are_the_highest_of_each(
            raised in prop::collection::vec(
                (0u32..200,
                    prop_oneof![0u128..10, Just(u128::from(u32::MAX)), any::<u64>().prop_map(u128::from)]), 0..200)
        ) {
            let mut series = Series::default();
            for (index, value) in &raised {
                series.raise(*index, *value);
            }
            for index in 0..200 {
                let of_index = raised.iter().filter(|(at, _)| *at == index).map(|(_, value)| *value);
                prop_assert_eq!(series.get(index), of_index.max().unwrap_or(0));
            }
        }
    }

    #[test]
    fn a_page_contains_its_options() {
        assert_eq!(size_of::<(u32, Page)>(), 24);
    }
}
