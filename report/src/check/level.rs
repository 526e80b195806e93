//! What applies at a level of the configuration: `http`, a server, or a location. Each level inherits from the level
//! above, as NGINX's modules merge their configurations.

use crate::nginx_conf::tree::{Directive, Place};

/// Where requests are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// no `request_cpu` applies
    #[default]
    Unset,
    /// `request_cpu off`
    Off(Place),
    /// the names of zones, with the position of the first `request_cpu`
    Zones(Vec<String>, Place),
}

impl Counting {
    /// The names of the zones.
    pub fn zones(&self) -> &[String] {
        match self {
            Counting::Zones(zones, _) => zones,
            _ => &[],
        }
    }
}

/// A `request_cpu_limit`.
#[derive(Clone, Debug)]
pub struct Limit {
    pub zone: String,
    pub place: Place,
}

/// What applies at a level.
#[derive(Clone, Debug, Default)]
pub struct Level {
    pub counting: Counting,
    pub limits: Vec<Limit>,
    access: Access,
}

/// What restricts access.
#[derive(Clone, Debug, Default)]
struct Access {
    /// the first words of `allow` and `deny`, with their addresses
    rules: Vec<(String, String)>,
    /// directives that ask for a password, a certificate, or another server's decision
    checks: Vec<String>,
    /// whether `return` refuses requests
    is_refused: bool,
}

/// Who may read a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    Everyone,
    /// there is `allow`, but no `deny`, so `allow` has no effect
    EveryoneInSpiteOfAllow,
    /// some, or everyone by intention
    Chosen,
}

impl Level {
    /// The level of a location, in which an `if` can refuse requests. Those of outer levels have other purposes.
    pub fn location(&self, block: &[Directive]) -> Level {
        let mut level = self.below(block);
        let conditions = block.iter().filter(|directive| directive.name() == "if");
        level.access.is_refused |= conditions.flat_map(|condition| &condition.block).any(refuses);
        level
    }

    /// The level that these directives make below this one.
    pub fn below(&self, block: &[Directive]) -> Level {
        let all = |name: &'static str| block.iter().filter(move |directive| directive.name() == name);
        Level {
            counting: counting(all("request_cpu")).unwrap_or_else(|| self.counting.clone()),
            limits: limits(all("request_cpu_limit")).unwrap_or_else(|| self.limits.clone()),
            access: self.access.below(block),
        }
    }

    /// Who may read a location with this level.
    pub fn readers(&self) -> Readers {
        let Access { rules, checks, is_refused } = &self.access;
        let is_allow = |(rule, address): &(String, String)| rule == "allow" && address != "all";
        if *is_refused || !checks.is_empty() {
            Readers::Chosen
        } else if rules.is_empty() {
            Readers::Everyone
        } else if rules.iter().all(is_allow) {
            Readers::EveryoneInSpiteOfAllow
        } else {
            Readers::Chosen
        }
    }
}

fn counting<'a>(directives: impl Iterator<Item = &'a Directive>) -> Option<Counting> {
    let mut counting = None;
    for directive in directives {
        if directive.argument() == "off" {
            return Some(Counting::Off(directive.place.clone()));
        }
        let (zones, _) = counting.get_or_insert_with(|| (Vec::new(), directive.place.clone()));
        zones.extend(directive.parameters("zone").map(str::to_owned));
    }
    counting.map(|(zones, place)| Counting::Zones(zones, place))
}

fn limits<'a>(directives: impl Iterator<Item = &'a Directive>) -> Option<Vec<Limit>> {
    let mut limits = None;
    for directive in directives {
        let limits: &mut Vec<Limit> = limits.get_or_insert_default();
        if let Some(zone) = directive.parameter("zone") {
            limits.push(Limit { zone: zone.to_owned(), place: directive.place.clone() });
        }
    }
    limits
}

impl Access {
    fn below(&self, block: &[Directive]) -> Access {
        let rules: Vec<_> = { block.iter() }
            .filter(|directive| matches!(directive.name(), "allow" | "deny"))
            .map(|directive| (directive.name().to_owned(), directive.argument().to_owned()))
            .collect();
        let mut checks = self.checks.clone();
        for directive in block {
            let name = directive.name();
            let is_check = match name {
                "auth_basic" | "auth_request" | "auth_jwt" | "auth_oidc" | "auth_ldap" | "auth_pam"
                | "auth_gss" | "auth_digest" | "js_access" => directive.argument() != "off",
                "ssl_verify_client" => directive.argument() == "on",
                name if name.starts_with("access_by_lua") || name == "perl_access" => true,
                _ => continue,
            };
            checks.retain(|check| check != name);
            if is_check {
                checks.push(name.to_owned());
            }
        }
        Access {
            rules: if rules.is_empty() { self.rules.clone() } else { rules },
            checks,
            is_refused: self.is_refused || block.iter().any(refuses),
        }
    }
}

/// Whether the directive answers requests with an error.
fn refuses(directive: &Directive) -> bool {
    directive.name() == "return" && directive.argument().starts_with('4')
}
