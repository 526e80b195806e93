//! Finds the first places of duplicate lines, by reading the files a second time.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::previous::LastTime;
use super::repeated::{Content, LineName};
use crate::input::{self, LinePlace, Options, fold_places, identity, is_regular};
use crate::time::{self, Millis};
use formats::line::Line;

/// Two lines with the same host, zone, key and time.
#[derive(Debug)]
pub struct Pair {
    pub name: LineName,
    /// none if the first place cannot be read again, as with standard input
    pub first: Option<LinePlace>,
    pub second: LinePlace,
    /// whether the contents are equal; none if one of the lines cannot be read again
    pub is_equal: Option<bool>,
}

/// Looks for the first places of lines with a known second place. Returns at most `wanted` pairs, in the
/// order of files and lines.
pub fn find(files: &[PathBuf], again: &[(LinePlace, LineName)], wanted: usize, is_raw: bool) -> Vec<Pair> {
    let names: HashSet<&LineName> = again.iter().map(|(_, name)| name).collect();
    let ends: HashSet<Millis> = names.iter().map(|name| name.end).collect();
    let mut found: HashMap<&LineName, Vec<(LinePlace, Content)>> = HashMap::new();
    let mut pairs: Vec<Pair> = Vec::new();
    let options = Options { quiet: true, ..Options::default() };
    let mut seen = HashSet::new();
    for (at, file) in files.iter().enumerate().filter(|(_, file)| is_regular(file)) {
        // a file that is named twice is read once
        if !seen.insert(identity(file)) || pairs.len() >= wanted {
            continue;
        }
        let new = || (LastTime::default(), Vec::new());
        let each = |(last, found): &mut (LastTime, Vec<_>), place: LinePlace, line: &[u8]| {
            let line = Line::read(line, is_raw)?;
            let (begin, end) = last.interval(&line)?;
            if ends.contains(&end)
                && let Some(name) = names.get(&LineName::of(&line, end))
            {
                found.push((*name, LinePlace { file: at, ..place }, Content::of(&line, begin)));
            }
            Ok::<(), String>(())
        };
        let (threads, _) = fold_places(std::slice::from_ref(file), &options, new, each);
        let mut lines: Vec<_> = threads.into_iter().flat_map(|(_, lines)| lines).collect();
        lines.sort_by_key(|(_, place, _)| *place);
        for (name, place, content) in lines {
            let places = found.entry(name).or_default();
            // a third line of the same name makes no pair
            if let [(first, first_content)] = places.as_slice()
                && pairs.len() < wanted
            {
                let is_equal = Some(*first_content == content);
                pairs.push(Pair { name: name.clone(), first: Some(*first), second: place, is_equal });
            }
            places.push((place, content));
        }
    }
    // a line that cannot be read again may still have a known place
    let told: HashSet<LineName> = pairs.iter().map(|pair| pair.name.clone()).collect();
    let mut others: Vec<Pair> = Vec::new();
    for (place, name) in again.iter().filter(|(_, name)| !told.contains(name)) {
        if pairs.len() + others.len() >= wanted || others.iter().any(|pair| pair.name == *name) {
            continue;
        }
        // the same line of a file that is named twice is not another place
        let is_other = |other: &LinePlace| match (files.get(other.file), files.get(place.file)) {
            (Some(a), Some(b)) => identity(a) != identity(b),
            _ => false,
        };
        let first = found.get(name).and_then(|places| places.first()).map(|(first, _)| *first);
        let elsewhere = first.filter(is_other);
        let (first, second) = match elsewhere {
            Some(other) if other < *place => (Some(other), *place),
            Some(other) if other > *place => (Some(*place), other),
            _ => (None, *place),
        };
        others.push(Pair { name: name.clone(), first, second, is_equal: None });
    }
    pairs.extend(others);
    pairs
}

impl Pair {
    /// The pair in words.
    pub fn shown(&self, files: &[PathBuf]) -> String {
        let place = |place: &LinePlace| {
            let file = files.get(place.file).map(|file| input::name(file)).unwrap_or_default();
            format!("{file}:{}", place.line)
        };
        let LineName { host, zone, key, end } = &self.name;
        let of = format!("host \"{host}\", zone \"{zone}\", key \"{key}\", time {}", time::format(*end));
        let second = place(&self.second);
        let Some(first) = &self.first else {
            return format!("{second} has the host, zone, key and time of a line before it ({of})");
        };
        let first = place(first);
        match self.is_equal {
            Some(true) => format!("{first} and {second} are equal, as in a copy of a file ({of})"),
            Some(false) => format!(
                "{first} and {second} differ: they are of two series of one server ({of}). Two servers may \
                 have the same host name, or two logs of a zone different intervals, or a reload may have \
                 changed the size of the zone"
            ),
            None => format!("{first} and {second} have the same host, zone, key and time ({of})"),
        }
    }
}
