//! A client of Prometheus' HTTP API.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::matcher::Matcher;
use crate::output::Wrong;
use crate::time::{Millis, SLOT_MS};

const TIMEOUT: Duration = Duration::from_secs(300);

/// A server with Prometheus' HTTP API.
pub struct Prometheus {
    agent: Agent,
    url: String,
    headers: Vec<(String, String)>,
    /// conditions for all series, in PromQL
    conditions: Vec<String>,
}

/// Checks the value of `--prometheus`.
pub fn parse_url(text: &str) -> Result<String, String> {
    let expected = "expected an address that begins with http:// or https://, such as http://localhost:9090";
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    let (url, _) = without_user(text);
    let uri: ureq::http::Uri = url.parse().map_err(|_| expected.to_owned())?;
    let is_empty = url.split_once("://").is_none_or(|(_, rest)| rest.is_empty() || rest.starts_with('/'));
    let has_host = !is_empty && uri.host().is_some_and(|host| !host.is_empty());
    if is_web && has_host { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

/// Checks the value of `--header`.
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

    /// The conditions between the braces of all selectors.
    pub fn restrict(&self, more: &str) -> String {
        let more = (!more.is_empty()).then_some(more);
        self.conditions.iter().map(String::as_str).chain(more).collect::<Vec<_>>().join(",")
    }

    /// The numbers of a query at each border of slots, as JSON.
    pub fn query(&self, query: &str, begin: Millis, end: Millis) -> anyhow::Result<Vec<u8>> {
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

/// Splits a URL into the base of the API's paths and `user:password`.
fn without_user(url: &str) -> (String, Option<&str>) {
    let url = url.trim_end_matches('/');
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (server, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match server.rsplit_once('@') {
        Some((user, server)) => (format!("{scheme}://{server}{path}"), Some(user)),
        None => (url.to_owned(), None),
    }
}

/// An error answer.
#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "errorType")]
    error_type: String,
    error: String,
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
