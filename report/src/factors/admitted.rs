//! The first names, up to a limit.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The first names that come, up to a limit. A name is admitted for all threads at once. So all requests of a
/// name are in its row, or all are among the others.
pub struct Admitted {
    admitted: Mutex<HashSet<Box<[u8]>>>,
    most: usize,
}

impl Admitted {
    /// An empty set with room for this number of names.
    pub fn new(most: usize) -> Self {
        Self { admitted: Mutex::default(), most }
    }

    pub fn admit(&self, name: &[u8]) -> bool {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if admitted.contains(name) {
            return true;
        }
        if admitted.len() < self.most {
            return admitted.insert(name.into());
        }
        false
    }
}
