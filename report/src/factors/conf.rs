//! A log format by its name, from a configuration and the files that it includes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use super::format::{COMBINED, Error, LogFormat};
use crate::nginx_conf::include::{self, OPTIONS};
use crate::nginx_conf::words::{End, Tokens};
use crate::output::{counted, list};

/// The deepest nesting of includes.
const MAX_DEPTH: usize = 32;
/// The most files that are read.
const MAX_FILES: usize = 10_000;
/// The largest configuration file.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The format of `CONF:NAME`, or the only one of `CONF`.
pub fn format_at(place: &str) -> anyhow::Result<LogFormat> {
    let (file, name) = file_and_name(place);
    if let Some("") = name {
        bail!("the name of a log_format is missing after \":\"");
    }
    let mut search =
        Search { prefix: file.parent().map(Path::to_owned).unwrap_or_default(), ..Search::default() };
    let text = read_any(file).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    search.file(file, &text, false, 0);
    search.choose(file, name)
}

/// Names of files and formats may contain colons. The longest existing file wins.
fn file_and_name(place: &str) -> (&Path, Option<&str>) {
    let is_file = |place: &str| fs::metadata(place).is_ok_and(|found| !found.is_dir());
    if is_file(place) {
        return (Path::new(place), None);
    }
    let mut colons = place.rmatch_indices(':').map(|(at, _)| place.split_at(at));
    let found = colons.find(|(file, _)| is_file(file));
    match found.or_else(|| place.rfind(':').map(|at| place.split_at(at))) {
        Some((file, name)) => (Path::new(file), Some(name.strip_prefix(':').unwrap_or(name))),
        None => (Path::new(place), None),
    }
}

/// The formats found in a configuration.
#[derive(Default)]
struct Search {
    /// NGINX's conf_prefix: paths of includes are relative to the folder of the main file (`ngx_conf_full_name`)
    prefix: PathBuf,
    /// names and arguments of `log_format`, in order
    formats: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    /// the same, to find those that were found before
    known: HashSet<(Vec<u8>, Vec<Vec<u8>>)>,
    /// files that are being read, by which a cycle is known
    open: Vec<PathBuf>,
    files: usize,
    /// files that could not be read, and why
    problems: Vec<String>,
}

impl Search {
    /// Adds the formats of a file. Those in a `stream` block are not for access logs.
    fn file(&mut self, path: &Path, text: &[u8], is_in_stream: bool, depth: usize) {
        self.files += 1;
        self.open.push(identity(path));
        let mut tokens = Tokens::new(text);
        let mut blocks: Vec<bool> = Vec::new();
        loop {
            let (words, end) = match tokens.directive() {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(quotes) => {
                    self.problems.push(format!("{}: {}", path.display(), Error::from(quotes)));
                    break;
                }
            };
            let in_stream = is_in_stream || blocks.contains(&true);
            match words.as_slice() {
                [directive, name, pieces @ ..] if directive == b"log_format" && !in_stream => {
                    // a file may be included several times
                    let format = (name.clone(), pieces.to_vec());
                    if self.known.insert(format.clone()) {
                        self.formats.push(format);
                    }
                }
                [directive, pattern] if directive == b"include" => self.include(pattern, in_stream, depth),
                _ => {}
            }
            match end {
                End::Open => blocks.push(words.first().is_some_and(|word| word == b"stream")),
                End::Close => drop(blocks.pop()),
                End::Other => {}
            }
        }
        self.open.pop();
    }

    /// As `ngx_conf_include` does it: a pattern may match nothing, a name must be a file.
    fn include(&mut self, pattern: &[u8], is_in_stream: bool, depth: usize) {
        let pattern = String::from_utf8_lossy(pattern).into_owned();
        let full = self.prefix.join(&pattern);
        if !include::is_pattern(&full.to_string_lossy()) {
            return self.included(&full, is_in_stream, depth);
        }
        match glob::glob_with(&include::for_glob(full.to_string_lossy().into_owned()), OPTIONS) {
            Ok(found) => {
                for path in found.take(MAX_FILES) {
                    match path {
                        Ok(path) => self.included(&path, is_in_stream, depth),
                        Err(error) => {
                            self.problems.push(format!("{}: {}", error.path().display(), error.error()));
                        }
                    }
                }
            }
            Err(_) => self.problems.push(format!("include {pattern}: the pattern is not valid")),
        }
    }

    fn included(&mut self, path: &Path, is_in_stream: bool, depth: usize) {
        let problem = if self.open.contains(&identity(path)) {
            "the file includes itself".to_owned()
        } else if depth + 1 > MAX_DEPTH {
            format!("more than {MAX_DEPTH} files include each other")
        } else if self.files >= MAX_FILES {
            // one line is enough
            if self.files == MAX_FILES {
                self.files += 1;
                self.problems.push(format!("only the first {MAX_FILES} files were read"));
            }
            return;
        } else {
            match read(path) {
                Ok(text) => return self.file(path, &text, is_in_stream, depth + 1),
                Err(error) => error.to_string(),
            }
        };
        self.problems.push(format!("{}: {problem}", path.display()));
    }

    fn choose(&self, file: &Path, name: Option<&str>) -> anyhow::Result<LogFormat> {
        // access_log uses the first format whose name is equal without regard to case
        let found = match name {
            Some(name) => self.formats.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes())),
            None => match self.formats.as_slice() {
                [only] => Some(only),
                _ => None,
            },
        };
        if let Some((_, pieces)) = found {
            return Ok(LogFormat::compile(pieces)?);
        }
        if name.is_some_and(|name| name.eq_ignore_ascii_case("combined")) {
            return Ok(LogFormat::parse(COMBINED)?);
        }
        let mut seen = HashSet::new();
        let known: Vec<String> = self
            .formats
            .iter()
            .filter(|(known, _)| seen.insert(known))
            .map(|(known, _)| String::from_utf8_lossy(known).into_owned())
            .collect();
        let within = match self.files {
            0 | 1 => file.display().to_string(),
            files => {
                format!(
                    "{} and the {}",
                    file.display(),
                    counted(files as u64 - 1, "file that it includes", "files that it includes")
                )
            }
        };
        let mut message = match (name, known.is_empty()) {
            (Some(name), true) => format!("there is no log_format \"{name}\" in {within}, and no other"),
            (Some(name), false) => {
                format!("there is no log_format \"{name}\" in {within}; there are: {}", list(known))
            }
            (None, true) => format!("there is no log_format in {within}"),
            (None, false) => format!(
                "there are several in {within}; name one of them, as in {}:{}: {}",
                file.display(),
                known.first().cloned().unwrap_or_else(|| "NAME".to_owned()),
                list(known)
            ),
        };
        for problem in self.problems.iter().take(10) {
            message.push_str(&format!("; not read: {problem}"));
        }
        bail!(message)
    }
}

fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Reads a regular file. Reading a pipe could wait forever.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    read_any(path)
}

/// A file, or a pipe.
fn read_any(path: &Path) -> std::io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_dir() {
        return Err(std::io::Error::other("it is a folder"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other("it is larger than 16 MB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn of(folder: &tempfile::TempDir, place: &str) -> Result<LogFormat, String> {
        let place = folder.path().join(place).display().to_string();
        format_at(&place)
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "."))
    }

    #[test]
    fn includes_are_followed_from_the_folder_of_the_main_file() {
        let folder = folder(&[
            (
                "nginx.conf",
                "stream { include s/*; } http { include conf.d/*.conf; log_format late '$late'; }",
            ),
            ("s/x", "log_format main '$stream';"),
            ("conf.d/a.conf", "include snippets/formats;"),
            ("conf.d/b.conf", "log_format main '$second';"),
            ("conf.d/.hidden.conf", "log_format hidden '$hidden';"),
            ("conf.d/c.txt", "log_format other '$other';"),
            ("snippets/formats", "log_format main '$first';"),
        ]);
        let format = |text: &str| LogFormat::parse(text).unwrap();
        assert_eq!(of(&folder, "nginx.conf:main"), Ok(format("$first")));
        assert_eq!(of(&folder, "nginx.conf:LATE"), Ok(format("$late")));
        assert_eq!(of(&folder, "nginx.conf:combined"), Ok(format(COMBINED)));
        assert_eq!(of(&folder, "conf.d/b.conf"), Ok(format("$second")));
        let error = of(&folder, "nginx.conf:hidden").unwrap_err();
        assert!(error.contains("the 4 files that it includes; there are: main, late"), "{error}");
        assert!(of(&folder, "nginx.conf").unwrap_err().contains("name one of them, as in ./nginx.conf:main"));
        assert!(of(&folder, "nginx.conf:").unwrap_err().contains("name of a log_format is missing"));
    }

    #[test]
    fn a_format_is_found_among_comments_blocks_and_lua() {
        let conf = r#"
            # log_format cpu '$commented';
            http {
                server { location ~ ^/a{2} { return 200 "it's"; } }
                init_by_lua_block { local s = { "it's" } }
                log_format other '$other';
                log_format cpu '$host '
                               '"$request"'; # the rest of the line
            }"#;
        let folder = folder(&[("x.conf", conf)]);
        assert_eq!(of(&folder, "x.conf:cpu"), Ok(LogFormat::parse(r#"$host "$request""#).unwrap()));
        let error = of(&folder, "x.conf:main").unwrap_err();
        assert_eq!(error, "there is no log_format \"main\" in ./x.conf; there are: other, cpu");
    }

    #[test]
    fn what_cannot_be_included_is_named_where_the_format_is_not_found() {
        let folder = folder(&[
            ("a", "include b; include missing; include none/*; include '['; log_format x '$x';"),
            ("b", "include a; log_format y 'broken"),
        ]);
        assert!(of(&folder, "a:x").is_ok());
        let error = of(&folder, "a:z").unwrap_err();
        for part in
            ["./a: the file includes itself", "./b: its quotes do not match", "./missing: No such file"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("none"), "{error}");
    }

    #[test]
    fn many_includes_come_to_an_end() {
        let deep: Vec<(String, String)> =
            (0..60).map(|n| (format!("f{n}"), format!("include f{0}; include f{0};", n + 1))).collect();
        let files: Vec<(&str, &str)> =
            deep.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let error = of(&folder(&files), "f0:x").unwrap_err();
        assert!(
            error.contains("more than 32 files include each other") || error.contains("only the first"),
            "{error}"
        );
    }

    #[test]
    fn a_format_that_is_included_twice_is_one() {
        let folder = folder(&[("a", "include b; include b;"), ("b", "log_format x '$x';")]);
        assert_eq!(of(&folder, "a"), Ok(LogFormat::parse("$x").unwrap()));
        let other =
            [("a", "include b; include c;"), ("b", "log_format x '$x';"), ("c", "log_format x '$y';")];
        assert!(of(&self::folder(&other), "a").unwrap_err().contains("there are several"));
    }

    #[test]
    fn files_and_formats_may_have_colons_in_their_names() {
        let folder =
            folder(&[("a", "log_format x:y '$a'; log_format z '$z';"), ("b:c", "log_format y '$b';")]);
        assert_eq!(of(&folder, "a:x:y"), Ok(LogFormat::parse("$a").unwrap()));
        assert_eq!(of(&folder, "b:c"), Ok(LogFormat::parse("$b").unwrap()));
        assert_eq!(of(&folder, "b:c:y"), Ok(LogFormat::parse("$b").unwrap()));
        assert!(of(&folder, "missing:x").unwrap_err().starts_with("./missing: No such file"));
    }

    #[test]
    fn of_many_formats_some_are_named() {
        let many: String = (0..50).map(|n| format!("log_format f{n} '$x';")).collect();
        let error = of(&folder(&[("a", &many)]), "a").unwrap_err();
        assert!(error.ends_with("f18, f19 and 30 more"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_format_is_found_wherever_it_stands(
            parents in prop::collection::vec(any::<prop::sample::Index>(), 1..8), is_glob in any::<bool>(),
        ) {
            // file n + 1 is included by one of those before it; the last has the format
            let mut texts = vec![String::new(); parents.len() + 1];
            for (at, parent) in parents.iter().enumerate() {
                let star = if is_glob { "*" } else { "" };
                texts[parent.index(at + 1)].push_str(&format!("include f{}_{star};\n", at + 1));
            }
            texts[parents.len()].push_str("log_format wanted '$wanted';");
            let files: Vec<(String, &str)> =
                texts.iter().enumerate().map(|(at, text)| (format!("f{at}_"), text.as_str())).collect();
            let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
            prop_assert_eq!(of(&folder(&files), "f0_:wanted"), LogFormat::parse("$wanted").map_err(|e| e.to_string()));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a-z*?\\[\\]{};'\" \n/.]{0,40}") {
            let folder = folder(&[("a", &format!("include {text};\n{text}"))]);
            let _ = of(&folder, "a:x");
        }
    }
}
