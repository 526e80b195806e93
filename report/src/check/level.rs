//! What applies at a level of the configuration: `http`, a server, or a location. Each level inherits from the level
//! above, as NGINX's modules merge their configurations.

use crate::nginx_conf::tree::{Directive, Place};

/// Asks for a password.
const PASSWORD: &str = "auth_basic";

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
    /// whether there is `auth_basic_user_file`; without it, NGINX ignores `auth_basic`
    /// (`ngx_http_auth_basic_handler`)
    has_users: bool,
    /// whether the server answers by `return`, before NGINX looks for a location
    server_answers: bool,
    /// whether the location answers by `return`; locations inside it do not inherit that
    /// (`ngx_http_rewrite_merge_loc_conf`)
    location_answers: bool,
}

/// Who may read a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    Everyone,
    /// there is `allow`, but no `deny`, so `allow` has no effect
    EveryoneInSpiteOfAllow,
    /// there is `auth_basic`, but no file of users, so `auth_basic` has no effect
    EveryoneInSpiteOfPassword,
    /// some, or everyone by intention
    Chosen,
}

impl Level {
    /// The level of a server.
    pub fn server(&self, block: &[Directive]) -> Level {
        let mut level = self.below(block);
        level.access.server_answers = answers(block);
        level
    }

    /// The level of a location, in which an `if` can refuse requests. Those of outer levels have other purposes.
    pub fn location(&self, block: &[Directive]) -> Level {
        let mut level = self.below(block);
        let conditions = block.iter().filter(|directive| directive.name() == "if");
        let refused = conditions.flat_map(|condition| &condition.block).any(refuses);
        level.access.location_answers = refused || answers(block);
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
        let Access { rules, checks, has_users, server_answers, location_answers } = &self.access;
        let is_allow = |(rule, address): &(String, String)| rule == "allow" && address != "all";
        let has_effect = |check: &String| check != PASSWORD || *has_users;
        let is_open = rules.iter().all(is_allow) && !checks.iter().any(has_effect);
        if *server_answers || *location_answers || !is_open {
            Readers::Chosen
        } else if !rules.is_empty() {
            Readers::EveryoneInSpiteOfAllow
        } else if !checks.is_empty() {
            Readers::EveryoneInSpiteOfPassword
        } else {
            Readers::Everyone
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
                PASSWORD | "auth_request" | "auth_jwt" | "auth_oidc" | "auth_ldap" | "auth_pam"
                | "auth_gss" | "auth_digest" | "js_access" => directive.argument() != "off",
                "ssl_verify_client" => directive.argument() == "on",
                // a setting for all of `http`
                "access_by_lua_no_postpone" => continue,
                name if name.starts_with("access_by_lua") => true,
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
            has_users: self.has_users || block.iter().any(|inner| inner.name() == "auth_basic_user_file"),
            server_answers: self.server_answers,
            location_answers: false,
        }
    }
}

/// Whether no other directive of the level is reached: a `return` comes before conditions, or it refuses requests.
fn answers(block: &[Directive]) -> bool {
    let mut always = { block.iter() }.take_while(|inner| !matches!(inner.name(), "if" | "break" | "rewrite"));
    always.any(|inner| inner.name() == "return") || block.iter().any(refuses)
}

/// Whether the directive answers requests with an error.
fn refuses(directive: &Directive) -> bool {
    directive.name() == "return" && directive.argument().starts_with('4')
}
