//! Times in which an instance was not scraped.

use std::collections::{BTreeMap, BTreeSet};

use crate::output::{complain, counted};
use crate::time::{self, Millis};

/// Times in which an instance was not scraped, with scrapes before and after.
#[derive(Debug, Default)]
pub struct Gaps(BTreeMap<String, BTreeSet<(Millis, Millis)>>);

/// The most instances that messages name.
const NAMED_GAPS: usize = 5;

impl Gaps {
    pub fn add(&mut self, instance: &str, gap: (Millis, Millis)) {
        match self.0.get_mut(instance) {
            Some(gaps) => {
                gaps.insert(gap);
            }
            None => {
                self.0.insert(instance.to_owned(), BTreeSet::from([gap]));
            }
        }
    }

    /// Writes the messages.
    pub fn report(&self) {
        for (instance, gaps) in self.0.iter().take(NAMED_GAPS) {
            let Some((begin, end)) = gaps.iter().max_by_key(|(begin, end)| (end - begin, *begin)) else {
                continue;
            };
            let longest = format!("from {} to {}", time::format(*begin), time::format(*end));
            let times = match gaps.len() {
                1 => longest,
                n => format!("{n} times, the longest {longest}"),
            };
            complain(&format!(
                "instance {instance} was not scraped {times}: its counters' growth is spread evenly over \
                 that time"
            ));
        }
        if let Some(more @ 1..) = self.0.len().checked_sub(NAMED_GAPS) {
            complain(&format!(
                "{} more were not scraped for some time",
                counted(more as u64, "instance", "instances")
            ));
        }
    }
}
