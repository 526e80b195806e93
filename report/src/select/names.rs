//! Names that were seen, for messages about patterns that match none of them.

use std::collections::BTreeSet;

/// The number of names that are shown.
const SHOWN: usize = 10;

/// The first names in their order, and whether there are more.
#[derive(Clone, Debug, Default)]
pub struct Names {
    first: BTreeSet<Box<str>>,
    is_more: bool,
}

impl Names {
    /// Notes a name.
    pub fn add(&mut self, name: &str) {
        if !self.first.contains(name) {
            self.first.insert(name.into());
            if self.first.len() > SHOWN {
                self.first.pop_last();
                self.is_more = true;
            }
        }
    }

    /// The names of both.
    pub fn with(mut self, other: Self) -> Self {
        other.first.iter().for_each(|name| self.add(name));
        self.is_more |= other.is_more;
        self
    }

    /// True if it is empty.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// As a list.
    pub fn shown(&self) -> String {
        let names: Vec<String> = self.first.iter().map(|name| format!("\"{name}\"")).collect();
        format!("{}{}", names.join(", "), if self.is_more { " and more" } else { "" })
    }
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<T: IntoIterator<Item = &'a str>>(names: T) -> Self {
        let mut all = Self::default();
        names.into_iter().for_each(|name| all.add(name));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_names_are_shown() {
        let names: Vec<String> = (10..30).rev().map(|n| n.to_string()).collect();
        let shown = |n: usize| names[..n].iter().map(String::as_str).collect::<Names>().shown();
        assert_eq!(shown(2), "\"28\", \"29\"");
        assert!(shown(10).ends_with("\"29\""));
        assert_eq!(
            shown(20),
            "\"10\", \"11\", \"12\", \"13\", \"14\", \"15\", \"16\", \"17\", \"18\", \"19\" and more"
        );
    }
}
