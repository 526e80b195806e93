//! Makes the reader of lines for the arguments.

use anyhow::{Context, bail};

use super::args::Args;
use super::fields::Field;
use super::format::{COMBINED, LogFormat};
use super::line::LineReader;
use super::lines::TIMES;
use super::names::FieldNames;
use super::{alien, conf};
use crate::output;

/// Options that exclude each other.
fn refuse_contradictions(args: &Args) -> anyhow::Result<()> {
    let role = |field: &str| match field.split_once('=').map_or(field, |(role, _)| role) {
        "cpu_ns" => "cpu".to_owned(),
        role => role.to_owned(),
    };
    for (at, field) in args.field.iter().enumerate() {
        if let Some(other) = args.field.iter().take(at).find(|other| role(other) == role(field)) {
            bail!("--field {other} and --field {field} exclude each other");
        }
        if role(field) == "cipher" && args.split.is_some() {
            bail!("--field {field} and --split exclude each other: both split the first figure");
        }
    }
    Ok(())
}

/// Makes the reader, and refuses arguments that exclude each other or that the format cannot serve.
pub fn reader(args: &Args) -> anyhow::Result<LineReader> {
    let mut names = FieldNames::default();
    refuse_contradictions(args)?;
    for field in &args.field {
        names.rename(field).context("--field")?;
    }
    if let Some(variable) = &args.by {
        names.add_up_by(variable).context("--by")?;
    }
    if let Some(variable) = &args.split {
        names.split_by(variable).context("--split")?;
    }
    let format = match (&args.log_format, &args.log_format_from) {
        (Some(format), _) => format.clone(),
        (None, Some(place)) => {
            conf::format_at(place).with_context(|| format!("--log-format-from {place}"))?
        }
        (None, None) => return LineReader::of_default(names),
    };
    let reader = LineReader::of_format(&format, names);
    if !reader.tells(Field::CpuNs) && !reader.tells(Field::CpuSeconds) {
        let variables = reader.names().any_of(&[Field::CpuNs, Field::CpuSeconds]);
        let glued = match reader.glued() {
            [] => String::new(),
            glued => format!("; between ${} there is no text that tells them apart", glued.join(" and $")),
        };
        if format == LogFormat::parse(COMBINED)? {
            bail!("log_format combined has no CPU time; {}", alien::advice(false));
        }
        bail!("the log_format has no {variables}{glued}; append $request_cpu_time to it, and reload NGINX");
    }
    for (option, fields) in args.asked() {
        if !fields.iter().any(|field| reader.tells(*field)) {
            bail!(
                "the log_format has no {}, which {option} asks for; it has {}",
                reader.names().any_of(&fields),
                output::list(reader.variables().map(|name| format!("${name}")).collect())
            );
        }
    }
    if (args.range.from.is_some() || args.range.to.is_some())
        && !TIMES.iter().any(|field| reader.tells(*field))
    {
        bail!("the log_format has no {}, which --from and --to need", reader.names().any_of(&TIMES));
    }
    Ok(reader)
}
