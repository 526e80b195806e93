//! Servers.

use super::address::Listen;
use super::level::Level;
use super::location::{self, Location};
use crate::nginx_conf::tree::{Directive, Place};

/// A server.
#[derive(Debug)]
pub struct Server {
    /// the arguments of `server_name`
    pub names: Vec<String>,
    pub listens: Vec<Listen>,
    pub place: Place,
    pub level: Level,
    pub locations: Vec<Location>,
}

impl Server {
    /// Reads a `server` of this level.
    pub fn of(directive: &Directive, http: &Level) -> Self {
        let all = |name: &'static str| directive.block.iter().filter(move |inner| inner.name() == name);
        let names = all("server_name").flat_map(|names| names.arguments().iter().cloned()).collect();
        let mut listens: Vec<_> = all("listen").map(|listen| Listen::of(listen.arguments())).collect();
        if listens.is_empty() {
            listens.push(Listen::standard());
        }
        let level = http.server(&directive.block);
        let locations = location::all(&directive.block, &level);
        Server { names, listens, place: directive.place.clone(), level, locations }
    }

    /// The value of `$server_name`.
    pub fn server_name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Names without wildcards and patterns.
    pub fn exact_names(&self) -> impl Iterator<Item = &str> {
        let is_exact = |name: &&str| !name.is_empty() && !name.starts_with(['~', '.']) && !name.contains('*');
        self.names.iter().map(String::as_str).filter(is_exact)
    }

    /// Whether its names have wildcards or patterns.
    pub fn has_open_names(&self) -> bool {
        let is_catch_all = |name: &&String| name.starts_with(['~', '.']) || name.contains('*');
        self.names.iter().any(|name| is_catch_all(&name))
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.listens.iter().all(|listen| listen.is_local)
    }

    /// The first address that other machines can reach.
    pub fn public_address(&self) -> Option<&str> {
        self.listens.iter().find(|listen| !listen.is_local).map(|listen| listen.address.as_str())
    }

    /// The levels of the server and of its locations, without those that only serve the status.
    fn levels(&self) -> impl Iterator<Item = &Level> {
        let locations = self.locations.iter().filter(|location| !location.is_in_status);
        let serves_only_status = !self.locations.is_empty() && locations.clone().next().is_none();
        let own = (!serves_only_status).then_some(&self.level);
        own.into_iter().chain(locations.map(|location| &location.level))
    }

    /// Whether any of its requests are counted in this zone.
    pub fn counts_in(&self, zone: &str) -> bool {
        self.levels().any(|level| level.counting.zones().iter().any(|name| name == zone))
    }
}
