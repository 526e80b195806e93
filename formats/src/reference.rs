//! Texts generated from the table: the reference documentation, and the types of the live page.

use core::fmt::Write as _;

use crate::counters::{COUNTERS, Counter, Detail, FAMILIES_IN_ORDER, Figure, Kind, PREFIX, Shape};
use crate::line::MEMBERS_IN_ORDER;

/// The tables of the documentation: members of an account in the status, families of Prometheus, members of the
/// traffic log.
pub fn markdown() -> String {
    let mut text =
        "<!-- Generated from formats/src/table.rs by `RECORD_GENERATED=1 cargo test generated`. -->\n\n\
        ## Members of an account in the status\n\n\
        | member | unit | kind | detail | meaning |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for counter in &COUNTERS {
        let Counter { name, help, .. } = counter;
        let (unit, kind, detail) = (counter.unit.name(), kind(counter.kind), detail(counter.detail));
        // a string takes everything
        let _ = writeln!(text, "| `{name}` | {unit} | {kind} | {detail} | {help} |");
    }
    text.push_str(
        "\n## Families of Prometheus\n\n| family | type | detail | meaning |\n| --- | --- | --- | --- |\n",
    );
    for (row, family) in &FAMILIES_IN_ORDER {
        let detail = COUNTERS.get(*row).map_or("", |counter| detail(counter.detail));
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

/// The type of an account in the status, for the live page.
pub fn typescript() -> String {
    let mut text = "// Generated from formats/src/table.rs by `RECORD_GENERATED=1 cargo test generated`.\n\n\
        import type { Limit, Signal, Tally } from \"./model.ts\";\n\n\
        /** An account in the status. Members that an older server may not have are optional. */\n\
        export interface Account {\n"
        .to_owned();
    for counter in &COUNTERS {
        let optional = if is_in_first_release(counter) { "" } else { "?" };
        let _ = writeln!(
            text,
            "  /** {} */\n  {}{optional}: {};",
            counter.help,
            counter.name,
            type_of(counter.shape)
        );
    }
    text.push_str("}\n");
    text
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
        for (name, text) in
            [("docs/generated/counters.md", markdown()), ("page/src/counters.ts", typescript())]
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
