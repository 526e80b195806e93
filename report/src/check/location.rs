//! Locations of a server.

use super::level::Level;
use crate::nginx_conf::tree::{Directive, Place};

/// A location.
#[derive(Debug)]
pub struct Location {
    /// as in the configuration, such as `= /cpu`
    pub name: String,
    pub place: Place,
    pub level: Level,
    /// the position of `request_cpu_status`
    pub status: Option<Place>,
    /// whether it has `request_cpu_status`, or is inside a location that has it
    pub is_in_status: bool,
    /// whether clients cannot request it
    pub is_internal: bool,
}

/// The locations in the block of a server, and those nested in them.
pub fn all(block: &[Directive], server: &Level) -> Vec<Location> {
    let mut all = Vec::new();
    add(block, server, Above::default(), &mut all);
    all
}

/// What a location inherits besides its level.
#[derive(Clone, Copy, Default)]
struct Above {
    is_in_status: bool,
    is_internal: bool,
}

fn add(block: &[Directive], level: &Level, above: Above, out: &mut Vec<Location>) {
    for directive in block.iter().filter(|directive| directive.name() == "location") {
        let level = level.location(&directive.block);
        let of = |name: &str| directive.block.iter().find(|inner| inner.name() == name);
        let status = of("request_cpu_status").map(|status| status.place.clone());
        let inner = Above {
            is_in_status: above.is_in_status || status.is_some(),
            is_internal: above.is_internal || of("internal").is_some(),
        };
        out.push(Location {
            name: directive.arguments().join(" "),
            place: directive.place.clone(),
            level: level.clone(),
            status,
            is_in_status: inner.is_in_status,
            is_internal: inner.is_internal || directive.argument().starts_with('@'),
        });
        add(&directive.block, &level, inner, out);
    }
}
