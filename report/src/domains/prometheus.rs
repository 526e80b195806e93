//! What domains used, from the counters that a Prometheus has scraped from a fleet.
//!
//! Counters are read as they are, of every instance, at the borders of slots, and what one has grown by from one to the next was
//! used in between. Prometheus' own `increase()` would extrapolate from what is within a slot to the slot, which is right on
//! average, but does not add up to the counters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::time::Duration;

use accounting::key;
use anyhow::{Context, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::matcher::Matcher;
use super::names::Names;
use super::overlap::{Overlaps, Points};
use super::time::{self, Millis, SLOT_MS};
use super::{Filter, Span};
use crate::output::{Wrong, complain, counted, printable};
use crate::twice::Duplicates;

/// Prometheus answers with at most 11,000 points of a series.
const MAX_POINTS: i64 = 10_000;

/// Numbers in an answer, which take some 30 bytes each.
const ANSWER_NUMBERS: usize = 500_000;

const TIMEOUT: Duration = Duration::from_secs(300);

/// A server with Prometheus' HTTP API.
pub struct Prometheus {
    agent: Agent,
    url: String,
    headers: Vec<(String, String)>,
    /// conditions for all series, in PromQL
    conditions: Vec<String>,
}

/// What is asked for: a counter, and what its numbers are to be multiplied with.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// with `{}` for what restricts the series
    pub query: &'static str,
    /// whole units in one of the counter's: 10^9 ns in a second
    pub scale: f64,
}

/// CPU in nanoseconds; every account has it.
pub const CPU: Counter = Counter { query: "nginx_request_cpu_seconds_total{}", scale: 1e9 };
/// Bytes.
pub const SENT: Counter = Counter { query: "nginx_request_cpu_sent_bytes_total{}", scale: 1.0 };
/// All of its classes begin anew at once, so that their sum is a counter too.
pub const REQUESTS: Counter =
    Counter { query: "sum without (class) (nginx_request_cpu_requests_total{})", scale: 1.0 };

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// the time of which something is known
    pub span: Span,
    /// of each counter, an instance where it was missing while the first one was there
    pub missing: Vec<Option<String>>,
    /// series of one instance at the same times
    twice: Option<String>,
    gaps: Gaps,
    /// why something may be missing
    pub doubt: Option<String>,
}

impl Found {
    /// Says of which part of the time nothing is known.
    pub fn report_span(&self, (from, to): (Millis, Millis)) {
        self.span.report(Some(from), Some(to));
        if self.span.time.is_none() {
            complain("Prometheus has no counters of these domains in that time");
        }
    }

    /// Says when instances were not scraped.
    pub fn report_gaps(&self) {
        self.gaps.report();
    }

    /// Says whether counters were added up that may be the same, or that this is an error.
    pub fn report_twice(&self, duplicates: Duplicates) -> anyhow::Result<()> {
        match &self.twice {
            Some(twice) if duplicates == Duplicates::Count => {
                complain(&format!("{twice}. Both are counted (--duplicates count)"));
            }
            Some(twice) => bail!("{twice}, or add both up with --duplicates count"),
            None => {}
        }
        Ok(())
    }
}

/// `--prometheus`, as it was given.
pub fn parse_url(text: &str) -> Result<String, String> {
    let expected = "expected an address that begins with http:// or https://, such as http://localhost:9090";
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    let (url, _) = without_user(text);
    let uri: ureq::http::Uri = url.parse().map_err(|_| expected.to_owned())?;
    let is_empty = url.split_once("://").is_none_or(|(_, rest)| rest.is_empty() || rest.starts_with('/'));
    let has_host = !is_empty && uri.host().is_some_and(|host| !host.is_empty());
    if is_web && has_host { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

/// `--header`, as it was given.
pub fn parse_header(text: &str) -> Result<String, String> {
    if !text.starts_with('@') {
        header(text)?;
    }
    Ok(text.to_owned())
}

/// The name and the value of a header.
fn header(line: &str) -> Result<(String, String), String> {
    let expected =
        || "expected \"NAME: VALUE\", such as \"Authorization: Bearer TOKEN\", or @FILE".to_owned();
    let (name, value) = line.split_once(':').ok_or_else(expected)?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = name.parse::<ureq::http::HeaderName>().is_ok();
    if is_name && value.parse::<ureq::http::HeaderValue>().is_ok() {
        Ok((name.to_owned(), value.to_owned()))
    } else {
        Err(expected())
    }
}

/// This is there for a zone without keys too.
const ZONES: &str = "nginx_request_cpu_zone_accounts{}";

impl Prometheus {
    /// `headers` are lines as `Authorization: Bearer …`, or `@FILE` with such lines.
    pub fn new(url: &str, headers: &[String], matchers: &[Matcher]) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        for header in headers {
            match header.strip_prefix('@') {
                Some(file) => {
                    let content = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
                    lines.extend(content.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
                }
                None => lines.push(header.clone()),
            }
        }
        let split = |line: &String| header(line).map_err(|error| Wrong(format!("--header: {error}")).into());
        let mut headers = lines.iter().map(split).collect::<anyhow::Result<Vec<_>>>()?;
        let (url, user) = without_user(url);
        if let Some(user) = user {
            let user: Vec<u8> = percent_decode_str(user).collect();
            headers.push(("Authorization".to_owned(), format!("Basic {}", BASE64_STANDARD.encode(user))));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(Duration::from_secs(10)))
            .user_agent(concat!("cpu-report/", env!("CARGO_PKG_VERSION")));
        if url.starts_with("https:") {
            let certificates = rustls_native_certs::load_native_certs().certs;
            let certificates: Vec<_> =
                certificates.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            config = config.tls_config(
                TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build(),
            );
        }
        let conditions = matchers.iter().map(Matcher::shown).collect();
        Ok(Self { agent: config.build().new_agent(), url, headers, conditions })
    }

    /// Tells `add` what the counters have grown by from `from` to `to`, which are borders of slots: the counter's place, zone, key,
    /// the time and whole units; it returns the part of that time that it took. `done` is told how far it got.
    pub fn read(
        &self,
        counters: &[Counter],
        add: Add<'_>,
        filter: &Filter,
        (from, to): (Millis, Millis),
        done: impl Fn(Millis),
    ) -> anyhow::Result<Found> {
        let mut growth = Growth {
            filter,
            add,
            counters: HashMap::new(),
            zones: HashMap::new(),
            latest: HashMap::new(),
            span: Span::default(),
            gaps: Gaps::default(),
        };
        let restrict = self.restrict(&filter.matchers());
        let (mut overlaps, mut doubt) = (Overlaps::default(), None);
        // the first point is what all others are compared with
        let (mut begin, mut points) = (from, 1);
        while begin <= to {
            let end = to.min(begin + (points - 1) * SLOT_MS);
            let ask = |query: &str| self.query(&query.replacen('}', &format!("{restrict}}}"), 1), begin, end);
            growth.forget(begin);
            growth.see(&parse(&ask(ZONES)?)?.data.result);
            let mut most = 1;
            for (at, counter) in counters.iter().enumerate() {
                let answer = ask(counter.query)?;
                let answer = parse(&answer)?;
                doubt = doubt.or_else(|| answer.doubt());
                let answer = answer.data.result;
                most = most.max(answer.len());
                growth.see(&answer);
                overlaps.see(&answer.iter().filter_map(|series| series.points(filter)).collect::<Vec<_>>());
                // a series that goes on after another one comes behind it
                let mut in_order: Vec<&Series<'_>> = answer.iter().collect();
                in_order.sort_by_cached_key(|series| {
                    let is_new = !growth.counters.contains_key(&series.labels(&[]));
                    (series.numbers().next().map(|(time, _)| time), is_new)
                });
                for series in in_order {
                    growth.add((at, counters.len()), counter.scale, series);
                }
            }
            points = ((ANSWER_NUMBERS / most) as i64).clamp(1, MAX_POINTS);
            begin = end + SLOT_MS;
            done(end);
        }
        Ok(Found {
            missing: growth.missing(counters.len()),
            span: growth.span,
            twice: overlaps.found(),
            gaps: growth.gaps,
            doubt,
        })
    }

    /// What is put between the braces of all selectors.
    fn restrict(&self, more: &str) -> String {
        let more = (!more.is_empty()).then_some(more);
        self.conditions.iter().map(String::as_str).chain(more).collect::<Vec<_>>().join(",")
    }

    /// Whether there are zones and instances that are asked for. If a pattern has matched nothing, it is said what
    /// there is.
    pub fn check(&self, filter: &Filter, (from, to): (Millis, Millis)) -> anyhow::Result<bool> {
        if !filter.is_unmatched() {
            return Ok(true);
        }
        // a chunk of points at most
        let begin = from.max(to - (MAX_POINTS - 1) * SLOT_MS);
        let answer = self.query(&ZONES.replacen('}', &format!("{}}}", self.restrict("")), 1), begin, to)?;
        let answer = parse(&answer)?.data.result;
        let (mut zones, mut hosts) = (Names::default(), Names::default());
        for series in &answer {
            let (zone, instance) = (printable(series.label("zone")), series.instance());
            zones.see(&zone);
            hosts.see(instance);
            // a zone without keys is there too
            filter.takes_zone(&zone);
            filter.takes_host(instance);
        }
        Ok(filter.check(&zones, &hosts))
    }

    fn query(&self, query: &str, begin: Millis, end: Millis) -> anyhow::Result<Vec<u8>> {
        let seconds = |time: Millis| format!("{:.3}", time as f64 / 1e3);
        let step = (SLOT_MS / 1000).to_string();
        let mut request = self.agent.post(format!("{}/api/v1/query_range", self.url));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let form = [("query", query), ("start", &seconds(begin)), ("end", &seconds(end)), ("step", &step)];
        let mut response = request.send_form(form).with_context(|| self.url.clone())?;
        let mut body = Vec::new();
        response.body_mut().as_reader().read_to_end(&mut body).with_context(|| self.url.clone())?;
        if !response.status().is_success() {
            let error = match serde_json::from_slice::<Failure>(&body) {
                Ok(failure) => format!("{} ({})", failure.error, failure.error_type),
                Err(_) => String::from_utf8_lossy(&body).chars().take(200).collect(),
            };
            bail!("{}: {}: {} in answer to {query}", self.url, response.status(), error.trim());
        }
        Ok(body)
    }
}

/// The URL that the API's paths are added to, and `user:password` out of it.
fn without_user(url: &str) -> (String, Option<&str>) {
    let url = url.trim_end_matches('/');
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (server, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match server.rsplit_once('@') {
        Some((user, server)) => (format!("{scheme}://{server}{path}"), Some(user)),
        None => (url.to_owned(), None),
    }
}

/// An answer that is an error.
#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "errorType")]
    error_type: String,
    error: String,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Matrix<'a>,
    /// Prometheus and Thanos say here that a store did not answer
    #[serde(default)]
    warnings: Vec<String>,
    /// VictoriaMetrics says it so
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
}

impl Answer<'_> {
    /// What the server says of an answer that may lack something.
    fn doubt(&self) -> Option<String> {
        match self.warnings.first() {
            Some(warning) => Some(format!("Prometheus warns of its answer: {}", warning.trim())),
            None if self.is_partial => Some("Prometheus says that its answer is partial".to_owned()),
            None => None,
        }
    }
}

#[derive(Deserialize)]
struct Matrix<'a> {
    #[serde(borrow)]
    result: Vec<Series<'a>>,
}

#[derive(Deserialize)]
struct Series<'a> {
    metric: std::collections::BTreeMap<String, String>,
    #[serde(borrow)]
    values: Vec<(f64, &'a str)>,
}

/// Takes what a counter has grown by; see [`Prometheus::read`].
pub type Add<'a> = &'a dyn Fn(usize, &str, &str, (Millis, Millis), u128) -> Option<(Millis, Millis)>;

/// From counters to what was used.
struct Growth<'a> {
    filter: &'a Filter,
    add: Add<'a>,
    /// the counters by the labels that all metrics of an account have
    counters: HashMap<String, Account>,
    /// when there was a zone of an instance, by the labels that all its accounts have
    zones: HashMap<String, BTreeSet<Millis>>,
    /// the counters as they were last, by instance, zone and key: a label may change
    latest: HashMap<String, Seen>,
    span: Span,
    gaps: Gaps,
}

/// When counters were seen last, and as they were then, in whole units.
type Seen = Box<[Option<(Millis, u128)>]>;

/// Times in which an instance was not scraped, but before and after.
#[derive(Debug, Default)]
struct Gaps(BTreeMap<String, BTreeSet<(Millis, Millis)>>);

/// So many instances are named.
const NAMED_GAPS: usize = 5;

impl Gaps {
    fn note(&mut self, instance: &str, gap: (Millis, Millis)) {
        match self.0.get_mut(instance) {
            Some(gaps) => {
                gaps.insert(gap);
            }
            None => {
                self.0.insert(instance.to_owned(), BTreeSet::from([gap]));
            }
        }
    }

    /// Says it.
    fn report(&self) {
        for (instance, gaps) in self.0.iter().take(NAMED_GAPS) {
            let Some((begin, end)) = gaps.iter().max_by_key(|(begin, end)| (end - begin, *begin)) else {
                continue;
            };
            let longest = format!("from {} to {}", time::format(*begin), time::format(*end));
            let times = match gaps.len() {
                1 => longest,
                n => format!("{n} times, the longest {longest}"),
            };
            complain(&format!(
                "instance {instance} was not scraped {times}: its counters' growth is spread evenly over that time"
            ));
        }
        if let Some(more @ 1..) = self.0.len().checked_sub(NAMED_GAPS) {
            complain(&format!(
                "{} more were not scraped for some time",
                counted(more as u64, "instance", "instances")
            ));
        }
    }
}

/// The counters of an account of an instance.
struct Account {
    instance: String,
    last: Seen,
    /// when they were seen first
    first: Box<[Option<Millis>]>,
}

impl Growth<'_> {
    /// Of each counter, an instance where it was missing while the first one was there.
    fn missing(&self, counters: usize) -> Vec<Option<String>> {
        let is_missing = |account: &&Account, at: usize| match (account.first.first(), account.first.get(at))
        {
            (Some(Some(begin)), Some(first)) => first.is_none_or(|first| first > *begin),
            _ => false,
        };
        let of = |at| {
            let without = self.counters.values().filter(|account| is_missing(account, at));
            without.map(|account| &account.instance).min().cloned()
        };
        (0..counters).map(of).collect()
    }

    /// Of the borders before `begin`, the last one at which there was the zone is still needed.
    fn forget(&mut self, begin: Millis) {
        for times in self.zones.values_mut() {
            let last = times.range(..begin).next_back().copied();
            times.retain(|time| Some(*time) == last);
        }
    }

    /// Notes when there were these zones, or accounts of them.
    fn see(&mut self, answer: &[Series<'_>]) {
        for series in answer {
            let times = self.zones.entry(series.labels(&["key"])).or_default();
            times.extend(series.numbers().map(|(time, _)| time));
        }
    }

    /// Adds what a counter has grown by. The difference is that of whole units, so that what is added up is exactly what the
    /// counter grew by.
    fn add(&mut self, (at, counters): (usize, usize), scale: f64, series: &Series<'_>) {
        let label = |name: &str| series.metric.get(name).map_or("", String::as_str);
        let (zone, key, instance) =
            (printable(label("zone")), key::shown_again(label("key")), series.instance());
        let (zone, key) = (zone.as_ref(), key.as_ref());
        if !self.filter.takes(zone, instance, key) {
            return;
        }
        let times = self.zones.get(&series.labels(&["key"]));
        let account = self.counters.entry(series.labels(&[])).or_insert_with(|| Account {
            instance: instance.to_owned(),
            last: vec![None; counters].into(),
            first: vec![None; counters].into(),
        });
        let (Some(last), Some(first)) = (account.last.get_mut(at), account.first.get_mut(at)) else { return };
        let latest = self
            .latest
            .entry([instance, zone, key].join("\0"))
            .or_insert_with(|| vec![None; counters].into());
        let Some(latest) = latest.get_mut(at) else { return };
        for (time, number) in series.numbers() {
            first.get_or_insert(time);
            let number = (number * scale).round() as u128;
            // the zone was there then, with the key or without
            let scraped = times.and_then(|times| times.range(..time).next_back().copied());
            let (since, before) = match (last.replace((time, number)), scraped) {
                (Some((since, earlier)), _) if earlier <= number => (since, earlier),
                // it began anew
                (Some((since, _)), _) => (since, 0),
                // where there was the zone without the key, the key began at nothing
                (None, Some(scraped)) => (scraped, 0),
                (None, None) => match *latest {
                    // another label has changed
                    Some((since, earlier)) if since <= time => {
                        (since.min(time - SLOT_MS), if earlier <= number { earlier } else { 0 })
                    }
                    // where it was not scraped, it may be from long ago
                    _ => continue,
                },
            };
            // nobody knows when it grew in a time in which it was not scraped
            let since = since.max(scraped.unwrap_or(since));
            if time - since > SLOT_MS {
                self.gaps.note(instance, (since, time));
            }
            if let Some((begin, end)) = (self.add)(at, zone, key, (since, time), number - before) {
                self.span.add(begin, end);
            }
        }
        *latest = (*last).max(*latest);
    }
}

fn parse(answer: &[u8]) -> anyhow::Result<Answer<'_>> {
    match serde_json::from_slice::<Answer<'_>>(answer) {
        Ok(answer) => Ok(answer),
        Err(_) => {
            let begin: String = String::from_utf8_lossy(answer).chars().take(60).collect();
            bail!(
                "this is no answer of Prometheus' HTTP API, but begins with \"{}\": is the address in --prometheus right?",
                begin.trim()
            )
        }
    }
}

impl Series<'_> {
    /// The labels but for the metric's name, the class and those named, in a form that is the same for the same labels.
    fn labels(&self, without: &[&str]) -> String {
        let mut labels = String::new();
        for (name, value) in &self.metric {
            if name != "__name__" && name != "class" && !without.contains(&name.as_str()) {
                // an earlier version of the module may have shown the same key otherwise
                let value = if name == "key" { key::shown_again(value) } else { value.into() };
                for text in [name, value.as_ref()] {
                    labels.push_str(text);
                    // not in UTF-8 texts of Prometheus' own, and harmless otherwise
                    labels.push('\0');
                }
            }
        }
        labels
    }

    fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", String::as_str)
    }

    /// The server. A Prometheus that takes series from another one (federation) keeps their label beside its own.
    fn instance(&self) -> &str {
        match self.label("exported_instance") {
            "" => self.label("instance"),
            exported => exported,
        }
    }

    /// When it has points, if it is asked for.
    fn points(&self, filter: &Filter) -> Option<Points<'_>> {
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

    fn numbers(&self) -> impl Iterator<Item = (Millis, f64)> {
        let number = |(time, number): &(f64, &str)| {
            let number: f64 = number.parse().ok()?;
            (number.is_finite() && number >= 0.0).then_some(((time * 1e3).round() as Millis, number))
        };
        self.values.iter().filter_map(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_in_the_url_that_messages_show() {
        let url = "http://me:se@cret@host:9090/a@b/";
        assert_eq!(without_user(url), ("http://host:9090/a@b".to_owned(), Some("me:se@cret")));
        assert_eq!(without_user("http://host/a@b"), ("http://host/a@b".to_owned(), None));
        for wrong in ["foo", "host:9090", "http://", "http://a b", "ftp://host"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
        assert!(parse_url(url).is_ok() && parse_url("http://[::1]:9090/a").is_ok());
        assert!(
            parse_header("foo").is_err() && parse_header("a b: c").is_err() && parse_header("@file").is_ok()
        );
    }

    #[test]
    fn headers_are_lines() {
        let headers = |lines: &[&str]| {
            Prometheus::new(
                "http://host",
                &lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(),
                &[],
            )
        };
        assert_eq!(headers(&["A: b:c"]).unwrap().headers, [("A".to_owned(), "b:c".to_owned())]);
        assert!(headers(&["A"]).is_err());
        assert!(headers(&["@/no/such/file"]).is_err());
    }
}
