//! Messages about lines that are in no figure, or that are not valid JSON.

use super::alien;
use super::fields::Field;
use super::json;
use super::line::LineReader;
use super::lines::{LineThread, TIMES};
use super::names::FieldNames;
use super::tally::FactorSums;
use crate::output::{self, complain};

/// The message about an option with a variable that no line has. None if no line could be read.
pub fn missing(
    threads: &[LineThread],
    asked: &[(String, Vec<Field>)],
    reader: &LineReader,
) -> Option<String> {
    let sample = threads.iter().map(|thread| &thread.sample).find(|sample| !sample.is_empty())?;
    let (option, fields) = asked.iter().enumerate().find_map(|(at, asked)| {
        let had = threads.iter().any(|thread| thread.had.get(at) == Some(&true));
        (!had).then_some(asked)
    })?;
    const MOST: usize = 1000;
    let known: Vec<String> = if reader.is_json(sample) {
        json::member_names(sample, MOST)
    } else {
        // the last variables of the format may be missing
        let words = sample.split(|byte| *byte == b' ').count();
        reader.variables().take(words).map(str::to_owned).collect()
    };
    let variables = reader.names().any_of(fields);
    Some(format!("no line has {variables}, which {option} asks for; lines have {}", output::list(known)))
}

/// Writes a message for each kind of lines that are in no figure, or that are not valid JSON.
pub fn report(tally: &FactorSums, names: &FieldNames) {
    let lines = |count: u64| output::counted(count, "line", "lines");
    if tally.without_cpu > 0 {
        let variables = names.any_of(&[Field::CpuNs, Field::CpuSeconds]);
        let were = if tally.without_cpu == 1 { "is without" } else { "are without" };
        let left = if tally.without_cpu == 1 { "was left out" } else { "were left out" };
        complain(&format!("{} {were} {variables}, and {left}", lines(tally.without_cpu)));
    }
    if tally.without_time > 0 {
        let times = names.any_of(&TIMES);
        let were = if tally.without_time == 1 { "is" } else { "are" };
        let left = if tally.without_time == 1 { "was" } else { "were" };
        complain(&format!(
            "{} {were} without {times}, which --from and --to need, and {left} left out: add one to the \
             log_format, or name it with --field time=VARIABLE",
            lines(tally.without_time)
        ));
    }
    if tally.traffic_log > 0 {
        complain(&format!("{} of a traffic log; cpu-report domains reads them", lines(tally.traffic_log)));
    }
    if tally.subrequests > 0 {
        let were = if tally.subrequests == 1 { "is of a subrequest" } else { "are of subrequests" };
        let left = if tally.subrequests == 1 { "was left out" } else { "were left out" };
        complain(&format!(
            "{} {were} (${} is 1), and {left}: the line of the main request includes their CPU",
            lines(tally.subrequests),
            names.name(Field::Subrequest)
        ));
    }
    if tally.zero_orders > 0 {
        complain(&format!(
            "{} 0 as ${}, which counts from 1, and {} in no figure by order",
            output::counted(tally.zero_orders, "request has", "requests have"),
            names.name(Field::Order),
            if tally.zero_orders == 1 { "is" } else { "are" }
        ));
    }
    if tally.repeated.count > 0 {
        complain(&format!(
            "{} with the $request_id of a line shortly before: if log_subrequest is on, CPU counts several \
             times; add $request_cpu_subrequest to the log_format",
            lines(tally.repeated.count)
        ));
    }
    if tally.has_combined {
        complain(&format!("lines of log_format combined have no CPU time; {}", alien::advice(false)));
    }
    if tally.has_host {
        complain(&format!(
            "lines of the common or combined log format have no CPU time; {}",
            alien::advice(true)
        ));
    }
    for (count, fault) in [
        (tally.faults.escapes, "values with \\x22 and the like, for which log_format needs escape=json"),
        (
            tally.faults.values,
            "values without quotes that are no numbers: put variables in quotes in log_format",
        ),
        (
            tally.faults.controls,
            "tabs or other control characters in values, for which log_format needs escape=json",
        ),
        (tally.faults.last_commas, "a comma before the last \"}\", which log_format must not have"),
        (
            tally.faults.commas,
            "a comma at the end, as in an array: jq -c '.[]' FILE writes each object as a line",
        ),
    ] {
        if count > 0 {
            let has = if count == 1 {
                "is not valid JSON, but was read"
            } else {
                "are not valid JSON, but were read"
            };
            complain(&format!("{} {has}: {fault}", lines(count)));
        }
    }
}
