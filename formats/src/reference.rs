//! Texts generated from the declarations: the reference documentation, and the types of the live page.

use core::fmt::Write as _;

use crate::counters::{COUNTERS, Counter, Detail, Figure, Kind, Shape};
use crate::line::MEMBERS_IN_ORDER;
use crate::prometheus::{FAMILIES_IN_ORDER, OTHER_FAMILIES, PREFIX, SERVER_FAMILIES};
use crate::status::{LIMIT, MAX_DEBT, Member, REFUSED, SIGNAL, Server, TALLY_CPU, Worker, Zone, names};

/// The tables of the documentation: members of the status, families of Prometheus, members of the traffic log.
pub fn markdown() -> String {
    let mut text =
        "<!-- Generated from formats/ by `RECORD_GENERATED=1 cargo test generated`. -->\n".to_owned();
    for (title, members) in [
        ("Members of the status before the workers", Server::MEMBERS),
        ("Members of a worker in the status", Worker::MEMBERS),
        ("Members of a zone in the status", Zone::MEMBERS),
    ] {
        // writing to a string cannot fail
        let _ = write!(text, "\n## {title}\n\n| member | unit | meaning |\n| --- | --- | --- |\n");
        for Member { name, unit, help, .. } in members {
            let _ = writeln!(text, "| `{name}` | {} | {help} |", unit.map_or("", |unit| unit.name()));
        }
    }
    text.push_str(
        "\n## Members of an account in the status\n\n\
        | member | unit | kind | detail | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for counter in &COUNTERS {
        let Counter { name, help, .. } = counter;
        let (unit, kind, detail) = (counter.unit.name(), kind(counter.kind), detail(counter.detail));
        let _ = writeln!(text, "| `{name}` | {unit} | {kind} | {detail} | {help} |");
    }
    text.push_str(
        "\n## Families of Prometheus\n\n| family | type | detail | meaning |\n| --- | --- | --- | --- |\n",
    );
    let server = SERVER_FAMILIES.iter().map(|family| (None, family));
    let accounts = FAMILIES_IN_ORDER.iter().map(|(row, family)| (COUNTERS.get(*row), family));
    let others = OTHER_FAMILIES.iter().map(|family| (None, family));
    for (counter, family) in server.chain(accounts).chain(others) {
        let detail = counter.map_or("low", |counter| detail(counter.detail));
        let _ =
            writeln!(text, "| `{PREFIX}{}` | {} | {detail} | {} |", family.name, family.kind, family.help);
    }
    text.push_str("\n## Numbers in a line of the traffic log\n\n| member | in every line |\n| --- | --- |\n");
    for member in &MEMBERS_IN_ORDER {
        let always = if member.is_always { "yes" } else { "only if it is not zero" };
        let _ = writeln!(text, "| `{}` | {always} |", member.name);
    }
    text
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Peak => "peak",
    }
}

fn detail(detail: Detail) -> &'static str {
    match detail {
        Detail::Low => "low",
        Detail::Full => "full",
    }
}

/// The types of the status document, for the live page.
pub fn typescript() -> String {
    let mut text = "// Generated from formats/ by `RECORD_GENERATED=1 cargo test generated`.\n\
        //\n\
        // Members that an older server may not have are optional.\n"
        .to_owned();
    let all = [
        (
            "Status",
            "The status document.",
            Server::MEMBERS,
            vec![
                (names::WORKERS, "WorkerTotals[]", true),
                (names::ZONES, "Record<string, ZoneStatus>", true),
            ],
        ),
        ("WorkerTotals", "A worker and its totals.", Worker::MEMBERS, vec![]),
        (
            "ZoneStatus",
            "A zone and its accounts.",
            Zone::MEMBERS,
            vec![
                (names::KEYS, "Record<string, Account>", true),
                (names::WINDOWS, "Record<string, Signal>", false),
            ],
        ),
    ];
    for (name, help, members, more) in all {
        let member = |member: &Member| {
            let type_name = if member.is_text { "string" } else { "number" };
            (member.name, type_name, member.is_in_first_release, member.help)
        };
        let more = more.into_iter().map(|(name, type_name, is_first)| (name, type_name, is_first, ""));
        interface(&mut text, name, help, members.iter().map(member).chain(more));
    }
    let account = |counter: &'static Counter| {
        (counter.name, type_of(counter.shape), is_in_first_release(counter), counter.help)
    };
    interface(&mut text, "Account", "An account.", COUNTERS.iter().map(account));
    let numbers = |names: &'static [&'static str]| names.iter().map(|name| (*name, "number", true, ""));
    interface(&mut text, "Signal", "Averages over a window, for autoscalers.", numbers(&SIGNAL));
    let help = "The limit at the latest check, and the requests refused by all limits of the account.";
    let largest = [(MAX_DEBT, "number", false, "")];
    interface(&mut text, "Limit", help, numbers(&LIMIT).chain(numbers(&REFUSED)).chain(largest));
    let help = "Requests and their CPU time.";
    interface(&mut text, "Tally", help, numbers(&["requests", TALLY_CPU]));
    text
}

/// Appends an interface of TypeScript. Each member has a name, a type, a flag that tells whether it is always there,
/// and a meaning.
fn interface<'a>(
    text: &mut String,
    name: &str,
    help: &str,
    members: impl Iterator<Item = (&'a str, &'a str, bool, &'a str)>,
) {
    let _ = write!(text, "\n/** {help} */\nexport interface {name} {{\n");
    for (name, type_name, is_always, help) in members {
        if !help.is_empty() {
            let _ = writeln!(text, "  /** {help} */");
        }
        let _ = writeln!(text, "  {name}{}: {type_name};", if is_always { "" } else { "?" });
    }
    text.push_str("}\n");
}

/// Whether every server has the member.
fn is_in_first_release(counter: &Counter) -> bool {
    let first =
        ["responses", "cpu_ns", "wakeups", "sent_bytes", "received_bytes", "requests", "in_flight", "cores"];
    first.contains(&counter.name)
}

fn type_of(shape: Shape) -> &'static str {
    match shape {
        Shape::One => "number",
        Shape::Classes(_) => "Record<string, number>",
        Shape::Tallies { counted: "handshakes", .. } => {
            "Record<string, { handshakes: number; cpu_ns: number }>"
        }
        Shape::Tallies { .. } => "Record<string, Tally>",
        Shape::Refusals(_) => "Limit",
        Shape::Histogram => "{ le_ns: number; requests: number }[]",
        Shape::Figure(Figure::Cores) => "Record<string, number>",
        Shape::Figure(Figure::Limits) => "Omit<Limit, `refused${string}`>[]",
        Shape::Figure(Figure::Windows) => "Record<string, Signal>",
        Shape::Figure(_) => "number",
    }
}

#[cfg(all(test, not(feature = "example-counter")))]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn generated_files_are_those_of_the_table() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        for (name, text) in [("docs/generated/counters.md", markdown()), ("page/src/status.ts", typescript())]
        {
            let path = root.join(name);
            if std::env::var_os("RECORD_GENERATED").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let there = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(there, text, "{name}: run RECORD_GENERATED=1 cargo test generated");
        }
    }
}

#[cfg(all(test, feature = "example-counter"))]
mod example_tests {
    use super::*;

    #[test]
    fn a_counter_added_to_the_table_is_documented() {
        let text = markdown();
        assert!(text.contains("| `example_ns` | ns | counter | low | CPU time of an example. |"), "{text}");
        assert!(text.contains("| `nginx_request_cpu_example_seconds_total` | counter | low |"), "{text}");
        assert!(text.contains("| `example_ns` | only if it is not zero |"), "{text}");
        assert!(typescript().contains("\n  example_ns?: number;\n"));
    }
}
