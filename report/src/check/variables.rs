//! Variables in values, and who chooses them.

use std::collections::{HashMap, HashSet};

use crate::nginx_conf::tree::Directive;

/// Variables of the module that turn measuring on.
pub const MEASURED: [&str; 4] =
    ["request_cpu_time", "request_cpu_ns", "request_cpu_wakeups", "request_cpu_connection_ns"];

/// Variables whose values clients choose freely. `$host` is none of them: in a server with a name, it is that name.
const CLIENTS: [&str; 15] = [
    "args",
    "content_length",
    "content_type",
    "document_uri",
    "http_host",
    "query_string",
    "remote_user",
    "request",
    "request_body",
    "request_filename",
    "request_method",
    "request_uri",
    "ssl_server_name",
    "uri",
    "realpath_root",
];
const CLIENTS_PREFIXES: [&str; 3] = ["http_", "cookie_", "arg_"];

/// The variables in a value, as `ngx_http_script_compile` finds them, in lower case.
pub fn variables(value: &str) -> impl Iterator<Item = String> {
    value.split('$').skip(1).filter_map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = rest.get(..end).filter(|name| !name.is_empty())?;
        Some(name.to_ascii_lowercase())
    })
}

/// Whether a value has this variable.
pub fn has(value: &str, name: &str) -> bool {
    variables(value).any(|variable| variable == name)
}

/// The variables that `map` defines, with all their values.
#[derive(Debug, Default)]
pub struct Maps(HashMap<String, Vec<String>>);

impl Maps {
    /// Adds the variable of a `map`.
    pub fn add(&mut self, map: &Directive) {
        let Some(name) = map.words.get(2).and_then(|name| variables(name).next()) else { return };
        // without a default the value is empty; a bare variable is the default's value as any other
        let values = map.block.iter().filter_map(|line| line.words.get(1).cloned());
        self.0.entry(name).or_default().extend(values);
    }

    /// A variable in this value that clients choose freely: in the value itself, or in a map.
    pub fn chosen_by_clients(&self, value: &str) -> Option<String> {
        self.find(value, &mut HashSet::new(), &|name| {
            let has_prefix = CLIENTS_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            has_prefix || CLIENTS.contains(&name)
        })
    }

    /// Whether this value is, or contains, `$host`: in the value itself, or in a map.
    pub fn has_host(&self, value: &str) -> bool {
        self.find(value, &mut HashSet::new(), &|name| name == "host").is_some()
    }

    /// Each map is searched once, so circles of maps end.
    fn find(&self, value: &str, seen: &mut HashSet<String>, wanted: &dyn Fn(&str) -> bool) -> Option<String> {
        variables(value).find(|name| match self.0.get(name) {
            Some(values) if seen.insert(name.clone()) => {
                values.iter().any(|value| self.find(value, seen, wanted).is_some())
            }
            Some(_) => false,
            None => wanted(name),
        })
    }
}
