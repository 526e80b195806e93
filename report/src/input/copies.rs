//! Files that begin with the same bytes, such as a log and its compressed copy.

use std::collections::HashMap;
use std::path::PathBuf;

use super::files::{identity, name};

/// The decompressed bytes that are compared. Lines of different requests differ at least in their times.
const COMPARED: usize = 4096;

/// The first bytes of files.
#[derive(Debug, Default)]
pub struct Copies {
    first: HashMap<Box<[u8]>, usize>,
    pairs: Vec<(usize, usize)>,
}

impl Copies {
    /// Records the first bytes of a file, by its place in the list of files.
    pub fn add(&mut self, file: usize, content: &[u8]) {
        let begin = content.get(..COMPARED).unwrap_or(content);
        if begin.is_empty() {
            return;
        }
        match self.first.get(begin) {
            Some(first) => self.pairs.push((*first, file)),
            None => {
                self.first.insert(begin.into(), file);
            }
        }
    }

    /// The message about copies, without files that are named twice.
    pub fn report(&self, files: &[PathBuf]) -> Option<String> {
        let of = |at: usize| identity(files.get(at)?);
        let are_two = |(a, b): &&(usize, usize)| of(*a).is_none() || of(*a) != of(*b);
        let mut pairs = self.pairs.iter().filter(are_two);
        let (a, b) = pairs.next()?;
        let shown = |at: &usize| files.get(*at).map(|file| name(file)).unwrap_or_default();
        let more = match pairs.count() {
            0 => String::new(),
            1 => ", and so does one more file".to_owned(),
            more => format!(", and so do {more} more files"),
        };
        Some(format!(
            "{} begins with the same lines as {}{more}: if it is a copy, its requests count twice",
            shown(b),
            shown(a)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_begin_alike_are_reported() {
        let files: Vec<PathBuf> = ["a", "b", "c", "d", "-"].iter().map(PathBuf::from).collect();
        let told = |contents: &[&str]| {
            let mut copies = Copies::default();
            contents.iter().enumerate().for_each(|(at, content)| copies.add(at, content.as_bytes()));
            copies.report(&files)
        };
        assert_eq!(told(&["x\ny\n", "x\nz\n", "", ""]), None);
        let said = told(&["x\n", "y\n", "x\n"]).unwrap();
        assert!(said.starts_with("c begins with the same lines as a: "), "{said}");
        assert!(told(&["x\n", "x\n", "x\n", "y\n", "y\n"]).unwrap().contains("and so do 2 more files"));
        // one of them is longer, as while it is copied
        let long = "x".repeat(COMPARED);
        assert!(told(&[&long, &format!("{long}y")]).is_some());
    }
}
