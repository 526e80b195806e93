//! The identity and the content of lines, for the search of duplicates.

use formats::line::Line;

use super::member::Member;
use super::usage::{Metric, Usage};
use crate::time::Millis;

/// All numbers of a line, without its host, zone, key and end.
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

/// The values that duplicate lines have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LineName {
    pub host: Box<str>,
    pub zone: Box<str>,
    pub key: Box<str>,
    pub end: Millis,
}

impl LineName {
    pub fn of(line: &Line<'_>, end: Millis) -> Self {
        Self { host: (*line.host).into(), zone: (*line.zone).into(), key: (*line.key).into(), end }
    }
}
