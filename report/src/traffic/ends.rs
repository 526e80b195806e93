//! The ends of the intervals that a domain has lines for.

use std::collections::BTreeMap;

use crate::time::Millis;

/// Hosts have numbers below this, so that a host and a page fit in 64 bits.
pub const MAX_HOSTS: u32 = 1 << 21;

/// Bits of a page's number.
const PAGE_BITS: u32 = 43;

/// The ends of most lines are multiples of one of these milliseconds. All others are counted in milliseconds.
const UNITS_MS: [u64; 4] = [300_000, 60_000, 5_000, 1_000];

/// A set of numbers. A page is 64 of them that follow on each other.
///
/// Times in logs ascend, so the current page is kept at hand. A set of one page takes no extra memory.
#[derive(Debug, Default)]
pub struct Pages {
    page: u64,
    /// none while the set is empty
    bits: u64,
    others: Option<Box<Others>>,
}

/// The parts that only large sets, or sets with contents, need.
#[derive(Debug, Default)]
struct Others {
    /// all pages but the current one
    bits: BTreeMap<u64, u64>,
    /// by page, a hash of each line's content, in the order of the bits
    contents: BTreeMap<u64, Vec<u64>>,
}

impl Pages {
    /// Adds a number. Returns whether it was in the set, and how many lower numbers the page has.
    pub fn insert(&mut self, page: u64, bit: u8) -> (bool, usize) {
        let mask = 1 << (bit % 64);
        if self.bits == 0 {
            self.page = page;
        }
        let bits = if self.page == page {
            &mut self.bits
        } else {
            let others = self.others.get_or_insert_default();
            if others.bits.contains_key(&page) {
                others.bits.entry(page).or_default()
            } else {
                others.bits.insert(self.page, self.bits);
                (self.page, self.bits) = (page, 0);
                &mut self.bits
            }
        };
        let (was_there, lower) = (*bits & mask != 0, *bits & (mask - 1));
        *bits |= mask;
        (was_there, lower.count_ones() as usize)
    }

    /// All pages with their bits, in order.
    pub fn pages(&self) -> Vec<(u64, u64)> {
        let others = self.others.iter().flat_map(|others| &others.bits).map(|(page, bits)| (*page, *bits));
        let mut pages: Vec<(u64, u64)> =
            others.chain((self.bits != 0).then_some((self.page, self.bits))).collect();
        pages.sort_unstable();
        pages
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let of_page = |(page, bits): (u64, u64)| {
            (0..64).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| page * 64 + bit)
        };
        self.pages().into_iter().flat_map(of_page)
    }

    /// Adds all numbers of another set.
    pub fn add(&mut self, other: &Self) {
        for number in other.iter() {
            self.insert(number / 64, (number % 64) as u8);
        }
    }
}

/// How a line relates to earlier lines of its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// no earlier line has this host and end
    New,
    /// an earlier line has this host and end; contents were not compared
    Again,
    /// an earlier line has this host and end, and the same content
    Equal,
    /// an earlier line has this host and end, and another content
    Different,
}

/// The hosts and ends of the lines of a domain. A domain with one line takes no extra memory.
#[derive(Debug, Default)]
pub struct Ends(Pages);

impl Ends {
    /// Adds a line. Contents are compared only if every line is added with a hash of its content.
    pub fn insert(&mut self, host: u32, end: Millis, content: Option<u64>) -> Verdict {
        let (page, bit) = place(end);
        let page = (u64::from(host) << PAGE_BITS) | page;
        let (was_there, lower) = self.0.insert(page, bit);
        let Some(content) = content else {
            return if was_there { Verdict::Again } else { Verdict::New };
        };
        let contents = self.0.others.get_or_insert_default().contents.entry(page).or_default();
        match was_there {
            false => {
                contents.insert(lower.min(contents.len()), content);
                Verdict::New
            }
            true if contents.get(lower) == Some(&content) => Verdict::Equal,
            true => Verdict::Different,
        }
    }
}

/// The page and the bit of an end. No two ends share them. The unit depends only on the end, so an end is
/// always found at the same place.
fn place(end: Millis) -> (u64, u8) {
    // no line ends before 1970, and none after the year 9999, which is below 2^48 ms
    let end = u64::try_from(end).unwrap_or(0);
    let unit = UNITS_MS.iter().position(|unit| end.is_multiple_of(*unit));
    let divisor = unit.and_then(|unit| UNITS_MS.get(unit)).unwrap_or(&1);
    let number = end / divisor;
    // pages of milliseconds are below 2^42, those of seconds below 2^34
    let base = unit.map_or(0, |unit| (1 << 42) | ((unit as u64) << 34));
    (base | (number / 64), (number % 64) as u8)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::*;

    /// Ends as logs have them: near each other, and of all units.
    fn end() -> impl Strategy<Value = Millis> {
        (0i64..2000, prop::sample::select(&[300_000i64, 60_000, 5_000, 1_000, 1, 7][..]))
            .prop_map(|(number, unit)| 1_769_860_800_000 + number * unit)
    }

    proptest! {
        #[test]
        fn a_line_is_found_again_by_its_host_end_and_content(
            lines in prop::collection::vec((0u32..3, end(), 0u64..2), 0..300), has_content: bool,
        ) {
            let mut ends = Ends::default();
            let mut map = HashMap::new();
            for (host, end, content) in lines {
                let host = [0, 1, MAX_HOSTS - 1][host as usize];
                let wanted = match map.get(&(host, end)) {
                    None => Verdict::New,
                    Some(_) if !has_content => Verdict::Again,
                    Some(first) if *first == content => Verdict::Equal,
                    Some(_) => Verdict::Different,
                };
                prop_assert_eq!(ends.insert(host, end, has_content.then_some(content)), wanted);
                map.entry((host, end)).or_insert(content);
            }
        }

        #[test]
        fn no_two_ends_are_at_the_same_place(
            a in 0i64..253_402_300_800_000,
            b in end(),
            unit in prop::sample::select(&[1i64, 1000, 5000, 60_000, 300_000][..]),
        ) {
            for (a, b) in [(a, b), (b, b + unit), (a, a - a % unit)] {
                prop_assert_eq!(place(a) == place(b), a == b);
                prop_assert!(place(a).0 < 1 << PAGE_BITS);
            }
        }

        #[test]
        fn pages_have_the_content_of_a_set(
            numbers in prop::collection::vec(0u64..1000, 0..200), more in prop::collection::vec(0u64..1000, 0..200),
        ) {
            let (mut pages, mut others, mut set) = (Pages::default(), Pages::default(), BTreeSet::new());
            for number in numbers {
                let (was_there, _) = pages.insert(number / 64, (number % 64) as u8);
                prop_assert_eq!(was_there, !set.insert(number));
            }
            for number in more {
                others.insert(number / 64, (number % 64) as u8);
                set.insert(number);
            }
            pages.add(&others);
            prop_assert_eq!(pages.iter().collect::<Vec<_>>(), set.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn it_takes_little_room_beside_an_account() {
        assert_eq!(size_of::<Ends>(), 24);
    }
}
