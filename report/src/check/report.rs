//! The result of the check, for people and for programs.

use serde::Serialize;

use super::findings::{Finding, Severity};
use super::level::{Counting, Level};
use super::model::Model;
use crate::nginx_conf::Dump;
use crate::nginx_conf::tree::Place;

/// The result. Its members are the members of the JSON document.
#[derive(Debug, Serialize)]
pub struct Report {
    /// the main file
    pub file: String,
    pub files: usize,
    pub module: Option<Module>,
    /// whether requests are measured at all
    pub is_measured: bool,
    pub zones: Vec<Zone>,
    pub servers: Vec<Server>,
    /// `stream` and `mail`, of which nothing is measured
    pub other_blocks: Vec<Block>,
    pub findings: Vec<Finding>,
}

/// A directive with its position.
#[derive(Debug, Serialize)]
pub struct Module {
    pub path: String,
    #[serde(flatten)]
    pub at: Place,
}

/// A zone.
#[derive(Debug, Serialize)]
pub struct Zone {
    pub name: String,
    pub key: String,
    pub size_bytes: Option<u64>,
    /// about how many accounts it holds
    pub capacity: Option<u64>,
    pub state: Option<String>,
    pub logs: Vec<String>,
    /// the number of servers whose requests are counted in it
    pub servers: usize,
    #[serde(flatten)]
    pub at: Place,
}

/// Where requests are counted.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    pub zones: Vec<String>,
    /// why they are not counted; null if they are
    pub not_counted: Option<String>,
}

/// A server.
#[derive(Debug, Serialize)]
pub struct Server {
    pub names: Vec<String>,
    pub listen: Vec<String>,
    #[serde(flatten)]
    pub at: Place,
    #[serde(flatten)]
    pub counted: Counted,
    pub locations: Vec<Location>,
}

/// A location.
#[derive(Debug, Serialize)]
pub struct Location {
    pub location: String,
    #[serde(flatten)]
    pub at: Place,
    #[serde(flatten)]
    pub counted: Counted,
    pub is_status: bool,
}

/// A block of which nothing is measured.
#[derive(Debug, Serialize)]
pub struct Block {
    pub block: String,
    #[serde(flatten)]
    pub at: Place,
}

impl From<&Level> for Counted {
    fn from(level: &Level) -> Self {
        let not_counted = match &level.counting {
            Counting::Zones(..) => None,
            Counting::Off(place) => Some(format!("request_cpu off in {place}")),
            Counting::Unset => Some("no request_cpu".to_owned()),
        };
        Counted { zones: level.counting.zones().to_vec(), not_counted }
    }
}

impl Report {
    /// The result for a configuration.
    pub fn of(dump: &Dump<'_>, model: &Model, findings: Vec<Finding>) -> Self {
        let zones = model.zones.iter().map(|zone| Zone {
            name: zone.name.clone(),
            key: zone.key.clone(),
            size_bytes: zone.size_bytes,
            capacity: zone.capacity(),
            state: zone.state.clone(),
            logs: { model.logs.iter() }
                .filter(|log| log.zone == zone.name)
                .map(|log| log.path.clone())
                .collect(),
            servers: model.servers.iter().filter(|server| server.counts_in(&zone.name)).count(),
            at: zone.place.clone(),
        });
        let servers = model.servers.iter().map(|server| Server {
            names: server.names.clone(),
            listen: server.listens.iter().map(|listen| listen.address.clone()).collect(),
            at: server.place.clone(),
            counted: Counted::from(&server.level),
            locations: { server.locations.iter() }
                .map(|location| Location {
                    location: location.name.clone(),
                    at: location.place.clone(),
                    counted: Counted::from(&location.level),
                    is_status: location.status.is_some(),
                })
                .collect(),
        });
        let blocks = model.other_blocks.iter();
        Report {
            file: dump.files.first().map(|file| file.name.to_string()).unwrap_or_default(),
            files: dump.files.len(),
            module: model.module.as_ref().map(|(path, at)| Module { path: path.clone(), at: at.clone() }),
            is_measured: model.is_measured(),
            zones: zones.collect(),
            servers: servers.collect(),
            other_blocks: blocks.map(|(block, at)| Block { block: block.clone(), at: at.clone() }).collect(),
            findings,
        }
    }

    /// Whether something is probably wrong.
    pub fn has_warnings(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Warning)
    }
}
