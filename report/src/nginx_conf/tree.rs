//! The directives of a configuration, with their blocks. Included files are put in their places.

use std::fmt;
use std::rc::Rc;

use anyhow::bail;
use glob::Pattern;
use serde::Serialize;

use super::dump::{Dump, File};
use super::include::{self, OPTIONS};
use super::words::{End, Tokens};

/// The deepest nesting of blocks and files.
const MAX_DEPTH: usize = 100;
/// The most directives that are read. Files can be included several times.
const MAX_DIRECTIVES: usize = 2_000_000;

/// The position of a directive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Place {
    pub file: Rc<str>,
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A directive.
#[derive(Debug)]
pub struct Directive {
    /// name and arguments
    pub words: Vec<String>,
    pub place: Place,
    /// the directives in its block
    pub block: Vec<Directive>,
}

impl Directive {
    /// The name of the directive.
    pub fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The arguments of the directive.
    pub fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// The first argument.
    pub fn argument(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    /// The value of the first argument `NAME=VALUE`.
    pub fn parameter<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.parameters(name).next()
    }

    /// The values of all arguments `NAME=VALUE`.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.arguments().iter().filter_map(move |word| word.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Reads the first file, and the files that it includes.
pub fn read(dump: &Dump<'_>) -> anyhow::Result<Vec<Directive>> {
    let Some(first) = dump.files.first() else { return Ok(Vec::new()) };
    let folder = first.name.rfind('/').map_or("", |end| first.name.get(..=end).unwrap_or_default());
    let mut reader = Reader { dump, folder, directives: 0 };
    let mut directives = Vec::new();
    reader.file(first, 0, &mut directives)?;
    Ok(directives)
}

struct Reader<'a> {
    dump: &'a Dump<'a>,
    /// names of included files are relative to this folder (`ngx_conf_full_name`)
    folder: &'a str,
    directives: usize,
}

impl Reader<'_> {
    /// Adds the directives of a file.
    fn file(&mut self, file: &File<'_>, depth: usize, out: &mut Vec<Directive>) -> anyhow::Result<()> {
        let mut tokens = Tokens::new(file.text);
        let mut lines = Lines { text: file.text, at: 0, line: 1 };
        // blocks that are open
        let mut open: Vec<Directive> = Vec::new();
        loop {
            let place = |lines: &mut Lines<'_>, tokens: &Tokens<'_>| Place {
                file: file.name.clone(),
                line: lines.line_at(tokens.start()),
            };
            let Ok(found) = tokens.directive() else {
                bail!("{}: its quotes do not match", place(&mut lines, &tokens));
            };
            let Some((words, end)) = found else { break };
            let place = place(&mut lines, &tokens);
            self.directives += 1;
            if depth + open.len() > MAX_DEPTH {
                bail!("{place}: more than {MAX_DEPTH} blocks and files are nested");
            }
            if self.directives > MAX_DIRECTIVES {
                bail!("{place}: there are more than {MAX_DIRECTIVES} directives");
            }
            let words: Vec<String> =
                words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            let depth = depth + open.len() + 1;
            let block = open.last_mut().map_or(&mut *out, |open| &mut open.block);
            match (words.as_slice(), end) {
                (_, End::Open) => open.push(Directive { words, place, block: Vec::new() }),
                ([], _) => {}
                ([name, pattern], End::Other) if name == "include" => {
                    self.include(pattern, &place, depth, block)?;
                }
                _ => block.push(Directive { words, place: place.clone(), block: Vec::new() }),
            }
            if end == End::Close {
                let Some(closed) = open.pop() else { bail!("{}: unexpected \"}}\"", file.name) };
                open.last_mut().map_or(&mut *out, |open| &mut open.block).push(closed);
            }
        }
        match open.pop() {
            Some(block) => bail!("{}: the block of \"{}\" has no end", block.place, block.name()),
            None => Ok(()),
        }
    }

    /// Adds the directives of the files that an `include` names, as `ngx_conf_include` does it: a pattern may match
    /// nothing, a name must be a file.
    fn include(
        &mut self,
        pattern: &str,
        place: &Place,
        depth: usize,
        out: &mut Vec<Directive>,
    ) -> anyhow::Result<()> {
        let dump = self.dump;
        let full =
            if pattern.starts_with('/') { pattern.to_owned() } else { format!("{}{pattern}", self.folder) };
        if !dump.is_whole {
            bail!("{place}: \"include {pattern}\": only the output of \"nginx -T\" has included files");
        }
        if !include::is_pattern(&full) {
            let Some(file) = dump.files.iter().find(|file| *file.name == *full) else {
                bail!("{place}: the included file {full} is not in the output of \"nginx -T\"");
            };
            return self.file(file, depth, out);
        }
        let text = include::for_glob(full);
        let Ok(pattern) = Pattern::new(&text) else { bail!("{place}: the pattern {text} is not valid") };
        for file in dump.files.iter().filter(|file| pattern.matches_with(&file.name, OPTIONS)) {
            self.file(file, depth, out)?;
        }
        Ok(())
    }
}

/// Counts lines. Positions only grow.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn line_at(&mut self, position: usize) -> usize {
        let passed = self.text.get(self.at..position).unwrap_or_default();
        self.line += memchr::memchr_iter(b'\n', passed).count();
        self.at = self.at.max(position);
        self.line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(directives: &[Directive]) -> String {
        let one = |directive: &Directive| {
            let Directive { words, place: Place { file, line }, block } = directive;
            let block = if block.is_empty() { String::new() } else { format!(" {{{}}}", shown(block)) };
            format!("{}@{}:{line}{block}", words.join(","), file.rsplit('/').next().unwrap())
        };
        directives.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn read_text(text: &str) -> Result<String, String> {
        read(&Dump::of(text.as_bytes(), "x")).map(|all| shown(&all)).map_err(|error| error.to_string())
    }

    #[test]
    fn included_files_are_put_in_their_places() {
        let text = "nginx: the configuration file /c/nginx.conf syntax is ok\n\
                    # configuration file /c/nginx.conf:\n\
                    user www;\nhttp {\n    include mime.types;\n    include sites/*;\n    include none/*;\n}\n\
                    \n# configuration file /c/mime.types:\ntypes { text/html html; }\n\
                    \n# configuration file /c/sites/a:\n\n# configuration file of the site:\nserver {\n  listen 80;\n}\
                    \n# configuration file /c/sites/b:\ninclude /c/mime.types;";
        assert_eq!(
            read_text(text).unwrap(),
            "user,www@nginx.conf:1 http@nginx.conf:2 {types@mime.types:1 {text/html,html@mime.types:1} \
             server@a:3 {listen,80@a:4} types@mime.types:1 {text/html,html@mime.types:1}}"
        );
    }

    #[test]
    fn names_are_relative_if_the_prefix_is() {
        let text = "nginx: the configuration file ./n syntax is ok\n# configuration file ./n:\n\
                    http { include s/*; }\n\n# configuration file ./s/a:\nserver { }\n";
        assert_eq!(read_text(text).unwrap(), "http@n:1 {server@a:1}");
        for comment in ["a;\n# configuration file c/x:\nb;", "a;\n# configuration file of c/x:\nb;"] {
            assert_eq!(read_text(comment).unwrap(), "a@x:1 b@x:3");
        }
        let text = "# configuration file /c/n:\na;\n# configuration file c/x:\nb;\n";
        assert_eq!(read_text(text).unwrap(), "a@n:1 b@n:3");
    }

    #[test]
    fn a_file_without_includes_can_be_read_too() {
        let text =
            "log_format a '$host'\n  \"b\";\n# }\nhttp { lua_block; content_by_lua_block { x = \"}\" } }";
        assert_eq!(
            read_text(text).unwrap(),
            "log_format,a,$host,b@x:1 http@x:4 {lua_block@x:4 content_by_lua_block@x:4}"
        );
    }

    #[test]
    fn a_text_that_is_no_configuration_is_refused_with_its_place() {
        for (text, message) in [
            ("a;\nhttp {\n", "x:2: the block of \"http\" has no end"),
            ("a;\n}", "x: unexpected \"}\""),
            ("a;\nb 'c", "x:2: its quotes do not match"),
            ("a;\ninclude b;", "x:2: \"include b\": only the output of \"nginx -T\" has included files"),
            (
                "# configuration file /c/n:\ninclude b;",
                "/c/n:1: the included file /c/b is not in the output of \"nginx -T\"",
            ),
            ("# configuration file /c/n:\n\ninclude n;", "/c/n:2: more than 100 blocks and files are nested"),
            ("# configuration file /c/n:\n\ninclude [*;", "/c/n:2: the pattern /c/[* is not valid"),
        ] {
            assert_eq!(read_text(text).unwrap_err(), message, "{text}");
        }
        assert!(read_text(&"a {".repeat(1000)).unwrap_err().contains("more than 100"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-z*?\\[\\]{};#'\"$\\\\ \n/.]|include |# configuration file /|:\n){0,60}") {
            let _ = read_text(&text);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&Dump::of(&bytes, "x"));
        }
    }
}
