//! A configuration, as far as the module's figures depend on it.

use super::level::Level;
use super::server::Server;
use super::variables::{MEASURED, Maps, has};
use super::zone::{Log, Zone};
use crate::nginx_conf::tree::{Directive, Place};

/// The part of the file name of the module that other modules do not have.
const MODULE: &str = "request_cpu";

/// A `log_format`.
#[derive(Debug)]
pub struct Format {
    pub name: String,
    pub place: Place,
    /// whether it has a variable of the module
    pub is_measured: bool,
    pub is_used: bool,
}

/// A configuration.
#[derive(Debug, Default)]
pub struct Model {
    /// path and position of `load_module`
    pub module: Option<(String, Place)>,
    /// whether any directive of the module is used
    pub has_directives: bool,
    /// whether there is any `request_cpu` with zones
    pub has_request_cpu: bool,
    /// the first use of a variable that turns measuring on
    pub variable: Option<(String, Place)>,
    pub zones: Vec<Zone>,
    pub logs: Vec<Log>,
    pub formats: Vec<Format>,
    pub maps: Maps,
    pub servers: Vec<Server>,
    /// `request_cpu_limit` of all levels
    pub limits: Vec<(String, Place)>,
    /// `stream` and `mail`
    pub other_blocks: Vec<(String, Place)>,
    /// `aio threads` at any level
    pub aio_threads: Option<Place>,
}

impl Model {
    /// Reads the directives of a whole configuration.
    pub fn of(directives: &[Directive]) -> Self {
        let mut model = Model::default();
        for directive in directives {
            match directive.name() {
                "load_module" if directive.argument().contains(MODULE) => {
                    model.module = Some((directive.argument().to_owned(), directive.place.clone()));
                }
                name @ ("stream" | "mail") => {
                    model.other_blocks.push((name.to_owned(), directive.place.clone()))
                }
                "http" => model.http(&directive.block),
                _ => {}
            }
        }
        model
    }

    /// Whether requests are measured.
    pub fn is_measured(&self) -> bool {
        self.variable.is_some() || !self.limits.is_empty() || self.has_request_cpu
    }

    /// Whether any requests are counted in any zone.
    pub fn counts_requests(&self) -> bool {
        self.zones.iter().any(|zone| self.servers.iter().any(|server| server.counts_in(&zone.name)))
    }

    fn http(&mut self, block: &[Directive]) {
        for directive in block {
            match directive.name() {
                "request_cpu_zone" => self.zones.extend(Zone::of(directive)),
                "request_cpu_log" => self.logs.push(Log::of(directive)),
                "map" => self.maps.add(directive),
                "log_format" => self.formats.push(Format {
                    name: directive.argument().to_owned(),
                    place: directive.place.clone(),
                    is_measured: MEASURED.iter().any(|name| has_in(directive, name)),
                    is_used: false,
                }),
                _ => {}
            }
        }
        let http = Level::default().below(block);
        let servers = block.iter().filter(|directive| directive.name() == "server");
        self.servers.extend(servers.map(|server| Server::of(server, &http)));
        self.walk(block);
    }

    /// Looks at all directives of a block, and of the blocks in it.
    fn walk(&mut self, block: &[Directive]) {
        for directive in block {
            let name = directive.name();
            self.has_directives |= name.starts_with(MODULE);
            match name {
                "request_cpu" => self.has_request_cpu |= directive.parameter("zone").is_some(),
                "request_cpu_limit" => {
                    if let Some(zone) = directive.parameter("zone") {
                        self.limits.push((zone.to_owned(), directive.place.clone()));
                    }
                }
                "aio" if directive.argument().starts_with("threads") && self.aio_threads.is_none() => {
                    self.aio_threads = Some(directive.place.clone());
                }
                "access_log" => {
                    let used = directive.arguments().get(1);
                    { self.formats.iter_mut() }
                        .filter(|format| used.is_some_and(|used| used.eq_ignore_ascii_case(&format.name)))
                        .for_each(|format| format.is_used = true);
                }
                _ => {}
            }
            if self.variable.is_none()
                && let Some(name) = MEASURED.iter().find(|name| has_in(directive, name))
            {
                self.variable = Some(((*name).to_owned(), directive.place.clone()));
            }
            self.walk(&directive.block);
        }
    }
}

fn has_in(directive: &Directive, variable: &str) -> bool {
    directive.arguments().iter().any(|word| has(word, variable))
}
