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
    /// whether clients cannot request it
    pub is_internal: bool,
}

/// Adds the locations in a block, and those nested in them.
pub fn add(block: &[Directive], above: &Level, out: &mut Vec<Location>) {
    for directive in block.iter().filter(|directive| directive.name() == "location") {
        let level = above.below(&directive.block);
        let of = |name: &str| directive.block.iter().find(|inner| inner.name() == name);
        out.push(Location {
            name: directive.arguments().join(" "),
            place: directive.place.clone(),
            level: level.clone(),
            status: of("request_cpu_status").map(|status| status.place.clone()),
            is_internal: of("internal").is_some() || directive.argument().starts_with('@'),
        });
        add(&directive.block, &level, out);
    }
}
