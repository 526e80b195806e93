//! What lines that stand twice have in common, and what is compared of them.

use formats::line::Line;

use super::member::Member;
use super::usage::{Metric, Usage};
use crate::time::Millis;

/// All numbers of a line, whatever its host, zone, key and end are.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Content {
    begin: Millis,
    members: [Option<u64>; Member::ALL.len()],
    others: [u128; 3],
}

impl Content {
    pub fn of(line: &Line<'_>, begin: Millis) -> Self {
        let usage = Usage::of(line);
        Self {
            begin,
            members: Member::ALL.map(|member| member.of(line)),
            others: [Metric::Responses4xx, Metric::Responses5xx, Metric::Refused].map(|metric| usage[metric]),
        }
    }
}

/// What lines that stand twice have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    pub host: Box<str>,
    pub zone: Box<str>,
    pub key: Box<str>,
    pub end: Millis,
}

impl Name {
    pub fn of(line: &Line<'_>, end: Millis) -> Self {
        Self { host: (*line.host).into(), zone: (*line.zone).into(), key: (*line.key).into(), end }
    }
}
