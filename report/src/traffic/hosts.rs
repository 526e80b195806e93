//! The servers that wrote the lines, and the times that their lines cover.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::ends::{MAX_HOSTS, Pages};
use crate::time::{Millis, slot};

/// The numbers of all servers. Threads share them.
#[derive(Debug, Default)]
pub struct Hosts(Mutex<HashMap<Box<str>, u32>>);

impl Hosts {
    /// The number of a server; none if there are too many.
    fn number(&self, name: &str) -> Option<u32> {
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = numbers.get(name) {
            return Some(*number);
        }
        let number = u32::try_from(numbers.len()).ok().filter(|number| *number < MAX_HOSTS)?;
        numbers.insert(name.into(), number);
        Some(number)
    }

    /// The names, in no order.
    pub fn into_names(self) -> Vec<Box<str>> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).into_keys().collect()
    }
}

/// A server.
#[derive(Debug)]
pub struct Host {
    /// none if there are too many servers
    pub number: Option<u32>,
    /// whether the server is chosen by --host
    pub is_taken: bool,
    /// slots that lines cover
    pub covered: Pages,
    /// the longest interval of a line
    pub longest_ms: i64,
    /// the interval of the line before
    latest: (Millis, Millis),
}

impl Host {
    fn new(number: Option<u32>, is_taken: bool) -> Self {
        Self { number, is_taken, covered: Pages::default(), longest_ms: 0, latest: (0, 0) }
    }

    /// Notes that a line covers this time. `whole_ms` is the length of the line's whole interval.
    pub fn cover(&mut self, (begin, end): (Millis, Millis), whole_ms: i64) {
        // lines are written in batches of the same time
        if self.latest != (begin, end) {
            self.latest = (begin, end);
            for slot in slot(begin)..=slot(end - 1) {
                self.covered.insert(u64::from(slot / 64), (slot % 64) as u8);
            }
        }
        self.longest_ms = self.longest_ms.max(whole_ms);
    }
}

/// The servers that a thread has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub places: HashMap<Box<str>, usize>,
    pub hosts: Vec<Host>,
    latest: Option<(String, usize)>,
    /// stands for servers above the limit
    other: Option<Host>,
}

impl Seen {
    /// The server of this name. For a new server, `is_taken` tells whether it is chosen.
    pub fn get(&mut self, name: &str, all: &Hosts, is_taken: impl FnOnce() -> bool) -> &mut Host {
        let place = match &self.latest {
            Some((latest, place)) if latest == name => Some(*place),
            _ => self.places.get(name).copied(),
        };
        let place = match place {
            Some(place) => place,
            None => {
                let Some(number) = all.number(name) else {
                    return self.other.insert(Host::new(None, is_taken()));
                };
                self.hosts.push(Host::new(Some(number), is_taken()));
                self.places.insert(name.into(), self.hosts.len() - 1);
                self.hosts.len() - 1
            }
        };
        match &mut self.latest {
            Some((latest, _)) if latest == name => {}
            Some((latest, latest_place)) => {
                name.clone_into(latest);
                *latest_place = place;
            }
            None => self.latest = Some((name.to_owned(), place)),
        }
        match self.hosts.get_mut(place) {
            Some(host) => host,
            // not reached: every place belongs to a host
            None => self.other.insert(Host::new(None, true)),
        }
    }
}
