//! A status that is written in small steps.

use super::negotiate::Format;
use super::shown::Shown;
use super::status::Status;
use super::{json, prometheus};

/// A status that is being written.
pub struct Answer {
    pub(super) status: Status,
    pub(super) shown: Vec<Shown>,
    /// number of zones in which accounts have been searched
    pub(super) searched: usize,
    /// the message if no zone has the requested account
    pub(super) error: String,
    pub(super) is_missing: bool,
    pub(super) format: Format,
    pub(super) place: Position,
}

/// The next part to be written, in either format.
pub(super) enum Position {
    Json(json::JsonPosition),
    Prometheus(prometheus::MetricsPosition),
}

impl Answer {
    /// Begins an answer.
    pub fn new(status: Status, format: Format) -> Answer {
        let shown = status.zones.iter().map(Shown::new).collect();
        let place = match format {
            Format::Json => Position::Json(json::JsonPosition::default()),
            Format::Prometheus => Position::Prometheus(prometheus::MetricsPosition::default()),
        };
        Answer { status, shown, searched: 0, error: String::new(), is_missing: false, format, place }
    }

    /// Sets the message that is the answer if no zone has the requested account.
    pub fn or_error(self, error: String) -> Answer {
        Answer { error, ..self }
    }

    /// Whether the answer was this message.
    pub fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// Appends the next part, which takes some microseconds: one account (in Prometheus' format, one family of one
    /// account). While accounts are being searched, nothing is appended yet. Returns whether more follows. `now_ms` is
    /// the monotonic time of the accounts' windows.
    pub fn write_some(&mut self, now_ms: u64, out: &mut Vec<u8>) -> bool {
        if let Some(shown) = self.shown.get_mut(self.searched) {
            if !shown.search() {
                self.searched += 1;
            }
            return self.searched < self.shown.len() || self.drop_zones() || {
                error(self.format, &self.error, out);
                false
            };
        }
        match &mut self.place {
            Position::Json(place) => place.write(&self.status, &self.shown, now_ms, out),
            Position::Prometheus(place) => place.write(&self.status, &self.shown, now_ms, out),
        }
    }
}

impl Answer {
    /// Removes the zones that do not have the requested account. Returns whether the answer is a status.
    pub(super) fn drop_zones(&mut self) -> bool {
        let had = self.shown.len();
        let mut has_account = self.shown.iter().map(Shown::has_account).collect::<Vec<_>>().into_iter();
        self.status.zones.retain(|_| has_account.next().unwrap_or(true));
        self.shown.retain(Shown::has_account);
        self.searched = self.shown.len();
        self.is_missing = had > 0 && self.shown.is_empty();
        !self.is_missing
    }
}

/// Appends the reason why there is no status: a JSON object with the member `error`, or a line of text.
pub fn error(format: Format, message: &str, out: &mut Vec<u8>) {
    match format {
        Format::Json => formats::status::write::error(message, out),
        Format::Prometheus => out.extend_from_slice(message.as_bytes()),
    }
    out.push(b'\n');
}
