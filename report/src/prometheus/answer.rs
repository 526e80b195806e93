//! The answers of Prometheus' HTTP API.

use anyhow::bail;
use formats::key;
use serde::Deserialize;

use super::overlap::Points;
use crate::output::printable;
use crate::select::Filter;
use crate::time::Millis;

#[derive(Deserialize)]
pub struct Answer<'a> {
    #[serde(borrow)]
    pub data: Matrix<'a>,
    /// Prometheus and Thanos warn here if a store did not answer
    #[serde(default)]
    pub warnings: Vec<String>,
    /// VictoriaMetrics warns in this way
    #[serde(default, rename = "isPartial")]
    pub is_partial: bool,
}

impl Answer<'_> {
    /// The server's warning that the answer may be incomplete.
    pub fn doubt(&self) -> Option<String> {
        match self.warnings.first() {
            Some(warning) => Some(format!("Prometheus warns of its answer: {}", warning.trim())),
            None if self.is_partial => Some("Prometheus says that its answer is partial".to_owned()),
            None => None,
        }
    }
}

#[derive(Deserialize)]
pub struct Matrix<'a> {
    #[serde(borrow)]
    pub result: Vec<Series<'a>>,
}

#[derive(Deserialize)]
pub struct Series<'a> {
    pub metric: std::collections::BTreeMap<String, String>,
    #[serde(borrow)]
    pub values: Vec<(f64, &'a str)>,
}

pub fn parse(answer: &[u8]) -> anyhow::Result<Answer<'_>> {
    match serde_json::from_slice::<Answer<'_>>(answer) {
        Ok(answer) => Ok(answer),
        Err(_) => {
            let begin: String = String::from_utf8_lossy(answer).chars().take(60).collect();
            bail!(
                "the answer is not from Prometheus' HTTP API and begins with \"{}\": check the address in \
                 --prometheus",
                begin.trim()
            )
        }
    }
}

impl Series<'_> {
    /// All labels except the metric's name, the class and those in `without`. Equal labels give equal texts.
    pub fn labels(&self, without: &[&str]) -> String {
        let mut labels = String::new();
        for (name, value) in &self.metric {
            if name != "__name__" && name != "class" && !without.contains(&name.as_str()) {
                // an earlier version of the module may have escaped the same key differently
                let value = if name == "key" { key::shown_again(value) } else { value.into() };
                for text in [name, value.as_ref()] {
                    labels.push_str(text);
                    // label values from Prometheus do not contain NUL; if one did, it would do no harm
                    labels.push('\0');
                }
            }
        }
        labels
    }

    pub fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", String::as_str)
    }

    /// The server. With federation, Prometheus keeps the original label as `exported_instance`.
    pub fn instance(&self) -> &str {
        match self.label("exported_instance") {
            "" => self.label("instance"),
            exported => exported,
        }
    }

    /// The times of the series' points, if the filter takes it.
    pub fn points(&self, filter: &Filter) -> Option<Points<'_>> {
        let (zone, key, instance) =
            (printable(self.label("zone")), key::shown_again(self.label("key")), self.instance());
        filter.takes(&zone, instance, &key).then(|| Points {
            labels: &self.metric,
            instance,
            zone: zone.into_owned(),
            key: key.into_owned(),
            times: self.numbers().map(|(time, _)| time).collect(),
        })
    }

    pub fn numbers(&self) -> impl Iterator<Item = (Millis, f64)> {
        let number = |(time, number): &(f64, &str)| {
            let number: f64 = number.parse().ok()?;
            (number.is_finite() && number >= 0.0).then_some(((time * 1e3).round() as Millis, number))
        };
        self.values.iter().filter_map(number)
    }
}
