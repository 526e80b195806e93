//! Findings: what is probably wrong in a configuration.

use serde::Serialize;

use crate::nginx_conf::tree::Place;

/// How sure it is that something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// probably a mistake
    Warning,
    /// a fact that is easily overlooked
    Note,
}

/// A finding.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// a name for programs
    pub id: &'static str,
    pub severity: Severity,
    #[serde(flatten)]
    pub place: Option<Place>,
    pub message: String,
}

/// The findings of one run.
#[derive(Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a warning.
    pub fn warn(&mut self, id: &'static str, place: Option<&Place>, message: String) {
        self.add(id, Severity::Warning, place, message);
    }

    /// Adds a note.
    pub fn note(&mut self, id: &'static str, place: Option<&Place>, message: String) {
        self.add(id, Severity::Note, place, message);
    }

    fn add(&mut self, id: &'static str, severity: Severity, place: Option<&Place>, message: String) {
        self.0.push(Finding { id, severity, place: place.cloned(), message });
    }

    /// Warnings first.
    pub fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| finding.severity);
        self.0
    }
}
