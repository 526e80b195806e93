//! Keys that clients choose, keys that are empty, and zones that are too small for their keys.

use std::collections::{HashMap, HashSet};

use super::super::address::Listen;
use super::super::findings::Findings;
use super::super::model::Model;
use super::super::server::Server;
use super::super::variables::has;
use super::super::zone::Zone;
use crate::output::grouped;

/// Checks the keys of all zones.
pub fn check(model: &Model, found: &mut Findings) {
    let defaults = default_servers(model);
    for zone in &model.zones {
        let servers: Vec<&Server> =
            model.servers.iter().filter(|server| server.counts_in(&zone.name)).collect();
        chosen_by_clients(model, &defaults, zone, &servers, found);
        empty(zone, &servers, found);
        too_small(zone, &servers, found);
    }
}

/// Clients can fill a zone with keys that they invent.
fn chosen_by_clients(
    model: &Model,
    defaults: &Defaults<'_>,
    zone: &Zone,
    servers: &[&Server],
    found: &mut Findings,
) {
    let Zone { name, key, place, .. } = zone;
    let Some(public) = servers.iter().find(|server| !server.is_local()) else { return };
    if let Some(variable) = model.maps.chosen_by_clients(key) {
        let message = format!(
            "clients choose ${variable} in the key of zone \"{name}\", and can fill the zone with invented keys; it \
             counts requests of the server in {}",
            public.place
        );
        return found.warn("key-of-clients", Some(place), message);
    }
    if !model.maps.has_host(key) {
        return;
    }
    if let Some((server, address)) = servers.iter().find_map(|server| takes_any_host(defaults, server)) {
        let message = format!(
            "clients can fill zone \"{name}\" with invented hosts: its key has $host, and the server in {} takes any \
             host at {address}; use $server_name, or \"request_cpu off\" in that server",
            server.place
        );
        found.warn("key-of-clients", Some(place), message);
    } else if let Some(server) = servers.iter().find(|server| !server.is_local() && server.has_open_names()) {
        let message = format!(
            "clients can fill zone \"{name}\" with invented hosts: its key has $host, and the server in {} takes all \
             hosts of a pattern",
            server.place
        );
        found.warn("key-of-clients", Some(place), message);
    }
}

/// For each address, the server that gets requests for hosts that no server names: the one with `default_server`,
/// otherwise the first one. HTTP/3 has sockets of its own, and so default servers of its own.
type Defaults<'a> = HashMap<(&'a str, bool), (&'a Server, bool)>;

fn default_servers(model: &Model) -> Defaults<'_> {
    let mut defaults = Defaults::new();
    for server in &model.servers {
        for listen in &server.listens {
            let address = (listen.address.as_str(), listen.is_quic);
            let (default, is_named) = defaults.entry(address).or_insert((server, listen.is_default));
            if listen.is_default && !*is_named {
                (*default, *is_named) = (server, true);
            }
        }
    }
    defaults
}

/// The address at which a server is the default server, so that it gets requests for all other hosts.
fn takes_any_host<'a>(defaults: &Defaults<'_>, server: &'a Server) -> Option<(&'a Server, &'a str)> {
    let is_default = |listen: &&Listen| {
        let default = defaults.get(&(listen.address.as_str(), listen.is_quic));
        default.is_some_and(|(default, _)| std::ptr::eq(*default, server))
    };
    let listen = server.listens.iter().filter(|listen| !listen.is_local).find(is_default)?;
    Some((server, listen.address.as_str()))
}

/// Requests with an empty key are not counted.
fn empty(zone: &Zone, servers: &[&Server], found: &mut Findings) {
    let Zone { name, key, .. } = zone;
    if matches!(key.as_str(), "$server_name" | "${server_name}") {
        for server in servers.iter().filter(|server| server.server_name().is_empty()) {
            let message = format!(
                "the server has no \"server_name\", so its requests are not counted in zone \"{name}\"; \
                 \"server_name _;\" gives them the key \"_\""
            );
            found.warn("server-without-name", Some(&server.place), message);
        }
    }
    let is_quic = |server: &&&Server| server.listens.iter().any(|listen| listen.is_quic);
    if has(key, "http_host")
        && let Some(server) = servers.iter().find(is_quic)
    {
        let message = format!(
            "the key of zone \"{name}\" has $http_host, which is empty in HTTP/3 requests, and the server in {} \
             listens for these; use $host",
            server.place
        );
        found.warn("http-host-with-http3", Some(&zone.place), message);
    }
}

/// There are more names of servers than accounts.
fn too_small(zone: &Zone, servers: &[&Server], found: &mut Findings) {
    let Zone { name, key, place, .. } = zone;
    let names: HashSet<&str> = if has(key, "server_name") {
        servers.iter().map(|server| server.server_name()).collect()
    } else if has(key, "host") || has(key, "http_host") {
        servers.iter().flat_map(|server| server.exact_names()).collect()
    } else {
        return;
    };
    let (count, Some(capacity)) = (names.len() as u64, zone.capacity()) else { return };
    if count > capacity {
        let message = format!(
            "zone \"{name}\" is too small: it holds about {} accounts, and there are {} server names; requests of \
             further names are counted in the account \"*\"",
            grouped(capacity),
            grouped(count)
        );
        found.warn("zone-too-small", Some(place), message);
    }
}
