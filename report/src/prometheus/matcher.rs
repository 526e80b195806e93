//! `--match`: a condition for a label of the series in Prometheus.

use super::promql::quoted;

/// A label, an operator and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    label: String,
    operator: &'static str,
    value: String,
}

/// Labels that cpu-report sets itself.
const OWN: [&str; 4] = ["__name__", "class", "dry_run", "le"];

impl Matcher {
    /// Reads an argument.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = text.find(|c| !is_of_name(c)).unwrap_or(text.len());
        let (label, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        let found = ["=~", "!~", "!=", "="].iter().find_map(|operator| {
            let value = rest.strip_prefix(operator)?;
            Some((*operator, value))
        });
        let Some((operator, value)) = found else {
            return Err("expected LABEL=VALUE, LABEL!=VALUE, LABEL=~REGEX or LABEL!~REGEX, such as \
                        job=nginx"
                .to_owned());
        };
        if label.is_empty() || label.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("invalid label name \"{label}\": letters, digits and \"_\" are allowed"));
        }
        if OWN.contains(&label) {
            return Err(format!(
                "the label \"{label}\" is set by cpu-report; other labels such as job are allowed"
            ));
        }
        // as in PromQL, quotes are allowed
        let value = match value.starts_with('"') {
            true => serde_json::from_str(value).map_err(|_| {
                format!("invalid value {value}: it begins with a quote and is not a complete string")
            })?,
            false => value.to_owned(),
        };
        Ok(Self { label: label.to_owned(), operator, value })
    }

    /// The condition in PromQL.
    pub fn shown(&self) -> String {
        format!("{}{}{}", self.label, self.operator, quoted(&self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_written_as_in_promql() {
        let shown = |text| Matcher::parse(text).map(|matcher| matcher.shown());
        for (text, wanted) in [
            ("job=nginx", "job=\"nginx\""),
            ("job=\"nginx\"", "job=\"nginx\""),
            ("replica!=a=b", "replica!=\"a=b\""),
            ("_a1=~x|\"y\\.z", "_a1=~\"x|\\\"y\\\\.z\""),
            ("pod!~", "pod!~\"\""),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(wanted));
        }
        for wrong in ["", "job", "=a", "1a=b", "jöb=a", "job>1", "class=2xx", "job=\"a", "a b=c"] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }
}
