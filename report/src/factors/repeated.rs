//! Finds lines that seem to belong to one request.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::fields::Field;
use super::record::Record;

/// The number of remembered requests. Subrequests are logged shortly before their main request.
const REMEMBERED: usize = 64;

/// Finds lines that seem to belong to one request, in logs that do not mark subrequests.
#[derive(Default)]
pub struct Repeated {
    /// how many
    pub count: u64,
    last: Vec<u64>,
    next: usize,
}

impl Repeated {
    /// Counts a line if one of the last requests has its `$request_id` too.
    pub fn count(&mut self, record: &Record<'_>) {
        let fields = &record.fields;
        if fields.has(Field::Subrequest) {
            return;
        }
        let Some(id) = fields.get(Field::RequestId) else { return };
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let id = hasher.finish();
        if self.last.contains(&id) {
            self.count += 1;
        } else if let Some(last) = self.last.get_mut(self.next) {
            *last = id;
            self.next = (self.next + 1) % REMEMBERED;
        } else {
            self.last.push(id);
            self.next = self.last.len() % REMEMBERED;
        }
    }
}
