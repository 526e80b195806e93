//! NGINX's `log_format`, read as `ngx_http_log_compile_format` reads it.

use std::fmt;

use crate::nginx_conf::words::{Quotes, Tokens, unescape};

/// NGINX's own format, in words of `log_format`.
pub const COMBINED: &str = concat!(
    r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "#,
    r#""$http_referer" "$http_user_agent""#,
);

/// The escaping of values: `escape=` of `log_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `"`, `\`, control characters and bytes from 0x7f on as `\xHH`; `-` for what is not there
    #[default]
    Default,
    /// as in JSON strings; a missing value is empty
    Json,
    /// as they are
    None,
}

/// A part of a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// text that is the same in each line
    Text(Vec<u8>),
    /// the value of a variable, by its name in lower case, without `$`
    Variable(String),
}

/// A log format. Two texts never follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// how values are written
    pub escape: Escape,
    /// the parts of a line, in order
    pub pieces: Vec<Piece>,
}

/// Why a text is not a log format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// a word after `escape=` that NGINX does not know
    UnknownEscape(String),
    /// `${` without `}`
    OpenBracket(String),
    /// `$` without a name
    NoName(String),
    /// no variable at all
    NoVariable,
    /// an unclosed quote, or text right after a quote
    Quotes,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEscape(word) => {
                write!(f, "unknown log format escaping \"{word}\", it must be default, json or none")
            }
            Self::OpenBracket(name) => write!(f, "the closing bracket in \"{name}\" variable is missing"),
            Self::NoName(text) => write!(f, "invalid parameter \"{text}\": a name must follow \"$\""),
            Self::NoVariable => write!(
                f,
                "the format has no variable; for a format by its name, use --log-format-from CONF:NAME"
            ),
            Self::Quotes => write!(f, "its quotes do not match"),
        }
    }
}

impl From<Quotes> for Error {
    fn from(Quotes: Quotes) -> Self {
        Self::Quotes
    }
}

impl std::error::Error for Error {}

impl LogFormat {
    /// Reads a format as in nginx.conf: the whole directive; its arguments after the name, which are quoted
    /// pieces, perhaps after `escape=`; or only the text within the quotes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text == "combined" {
            return Self::parse(COMBINED);
        }
        let is_directive = text.strip_prefix("log_format").is_some_and(|rest| rest.starts_with(is_space));
        if is_directive || text.starts_with('\'') || text.starts_with("escape=") {
            let mut tokens = Tokens::new(text.as_bytes());
            let (words, _) = tokens.directive()?.unwrap_or_default();
            return Self::compile(words.get(if is_directive { 2 } else { 0 }..).unwrap_or_default());
        }
        if let Some(format) = text.starts_with('"').then(|| Self::of_quoted(text)).flatten() {
            return Ok(format);
        }
        // a ";" at the end is that of the directive, unless the format has others
        let text = text.strip_suffix(';').filter(|rest| !rest.contains(';')).unwrap_or(text);
        Self::compile(&[unescape(text.as_bytes())])
    }

    /// Reads pieces in double quotes. None if the quotes seem to belong to the log line, around each value.
    fn of_quoted(text: &str) -> Option<Self> {
        let mut tokens = Tokens::new(text.as_bytes());
        let mut words = Vec::new();
        while let Some(&&byte) = tokens.rest.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => drop(tokens.rest.next()),
                b'"' | b'\'' => {
                    tokens.rest.next();
                    words.push(tokens.quoted(byte).ok()?);
                }
                b';' if tokens.rest.clone().skip(1).all(u8::is_ascii_whitespace) => break,
                _ => return None,
            }
        }
        let format = Self::compile(&words).ok()?;
        let is_variable = |piece: &Piece| matches!(piece, Piece::Variable(_));
        let is_glued = |words: &[Piece]| words.iter().all(is_variable);
        (words.len() == 1 || !format.pieces.windows(2).any(is_glued)).then_some(format)
    }

    /// The arguments of `log_format` without the name.
    pub fn compile(words: &[Vec<u8>]) -> Result<Self, Error> {
        let (escape, words) = match words.split_first() {
            Some((first, rest)) if first.starts_with(b"escape=") => (escape(first)?, rest),
            _ => (Escape::Default, words),
        };
        let mut pieces: Vec<Piece> = Vec::new();
        for word in words {
            let mut rest = word.as_slice();
            while !rest.is_empty() {
                rest = match rest.strip_prefix(b"$") {
                    Some(after) => variable(after, &mut pieces)?,
                    None => {
                        let (text, after) = rest.split_at(memchr::memchr(b'$', rest).unwrap_or(rest.len()));
                        match pieces.last_mut() {
                            Some(Piece::Text(before)) => before.extend_from_slice(text),
                            _ => pieces.push(Piece::Text(text.to_vec())),
                        }
                        after
                    }
                };
            }
        }
        if !pieces.iter().any(|piece| matches!(piece, Piece::Variable(_))) {
            return Err(Error::NoVariable);
        }
        Ok(Self { escape, pieces })
    }
}

fn escape(word: &[u8]) -> Result<Escape, Error> {
    match word.strip_prefix(b"escape=") {
        Some(b"default") => Ok(Escape::Default),
        Some(b"json") => Ok(Escape::Json),
        Some(b"none") => Ok(Escape::None),
        other => Err(Error::UnknownEscape(lossy(other.unwrap_or(word)))),
    }
}

/// Reads `name…` or `{name}…`, after a `$`.
fn variable<'a>(after: &'a [u8], pieces: &mut Vec<Piece>) -> Result<&'a [u8], Error> {
    let bracketed = after.strip_prefix(b"{");
    let named = bracketed.unwrap_or(after);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let (name, mut rest) = named.split_at(named.iter().take_while(|byte| is_name(byte)).count());
    if bracketed.is_some() {
        rest = rest.strip_prefix(b"}").ok_or_else(|| Error::OpenBracket(lossy(named)))?;
    }
    if name.is_empty() {
        return Err(Error::NoName(format!("${}", lossy(after))));
    }
    // ngx_http_get_variable_index() knows no difference between upper and lower case
    pieces.push(Piece::Variable(lossy(name).to_ascii_lowercase()));
    Ok(rest)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.as_bytes().to_vec())
    }

    fn variable(name: &str) -> Piece {
        Piece::Variable(name.to_owned())
    }

    #[test]
    fn a_format_is_texts_and_variables() {
        let format = LogFormat::parse(r#"$remote_addr - [$time_local] "${request}x" $STATUS"#).unwrap();
        assert_eq!(format.escape, Escape::Default);
        assert_eq!(
            format.pieces,
            [
                variable("remote_addr"),
                text(" - ["),
                variable("time_local"),
                text("] \""),
                variable("request"),
                text("x\" "),
                variable("status"),
            ]
        );
    }

    #[test]
    fn pieces_in_quotes_follow_on_each_other_without_a_space() {
        let expected = LogFormat::parse(r#"$host "$request" $status"#).unwrap();
        for text in [
            r#"'$host "$request" $status'"#,
            "'$host '\n    '\"$request\" '  '$status'",
            "'$host \"$request\" $status';",
            "log_format cpu '$host ' \"\\\"$request\\\" \" $status;",
            "log_format  cpu escape=default '$host \"$request\" $status';",
            r#"escape=default '$host "$request" $status'"#,
        ] {
            assert_eq!(LogFormat::parse(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn escaping_is_part_of_a_format() {
        let format = LogFormat::parse(r#"escape=json '{"host":"$host"}'"#).unwrap();
        assert_eq!(format.escape, Escape::Json);
        assert_eq!(format.pieces, [text("{\"host\":\""), variable("host"), text("\"}")]);
        assert_eq!(LogFormat::parse("escape=none '$a\\t$b\\d'").unwrap().pieces[1], text("\t"));
    }

    #[test]
    fn what_nginx_refuses_is_refused() {
        let message = |text: &str| LogFormat::parse(text).unwrap_err().to_string();
        assert_eq!(
            message("escape=xml '$host'"),
            "unknown log format escaping \"xml\", it must be default, json or none"
        );
        assert_eq!(message("${host"), "the closing bracket in \"host\" variable is missing");
        assert_eq!(message("a $ b"), "invalid parameter \"$ b\": a name must follow \"$\"");
        assert_eq!(message("a$"), "invalid parameter \"$\": a name must follow \"$\"");
        assert!(message("main").ends_with("--log-format-from CONF:NAME"));
        assert_eq!(message("'$host"), "its quotes do not match");
        assert_eq!(message("'$host'x"), "its quotes do not match");
        assert!(message("").starts_with("the format has no variable"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            let _ = LogFormat::parse(&text);
            let _ = LogFormat::parse(&format!("'{text}'"));
            let _ = LogFormat::parse(&format!("log_format {text}"));
            let mut tokens = Tokens::new(&bytes);
            while let Ok(Some(_)) = tokens.directive() {}
        }
    }

    #[test]
    fn pieces_may_be_in_double_quotes_and_end_as_the_directive_does() {
        let expected = LogFormat::parse("$host $request_cpu_time").unwrap();
        for text in [
            r#""$host $request_cpu_time""#,
            r#""$host " "$request_cpu_time";"#,
            r#""$host "
               '$request_cpu_time' ; "#,
            "'$host $request_cpu_time';",
            "$host $request_cpu_time;",
            r#"escape=default "$host $request_cpu_time";"#,
            r#"log_format cpu "$host $request_cpu_time";"#,
        ] {
            assert_eq!(LogFormat::parse(text).as_ref(), Ok(&expected), "{text}");
        }
        // these are quotes and borders of values
        for text in [r#""$host" "$request_cpu_time""#, r#""$host" $status"#, "$host;$status;"] {
            let format = LogFormat::parse(text).unwrap();
            let written = format.pieces.iter().map(|piece| match piece {
                Piece::Text(text) => String::from_utf8_lossy(text).into_owned(),
                Piece::Variable(name) => format!("${name}"),
            });
            assert_eq!(written.collect::<String>(), text);
        }
    }

    #[test]
    fn brackets_in_texts_of_lua_are_none_of_the_configuration() {
        for lua in [
            r#"ngx.say("}")"#,
            r#"ngx.say('\'}', "\"{")"#,
            "-- don't use { here\n x = 1",
            "local t = [[ } ' { ]] local u = [==[ }]]}]=]]==]",
            "--[[ { ' ]] local a = t[1]",
            "--[=[ } ]=] if a then b = { 1 } end",
            "-- [ {",
        ] {
            let conf = format!(
                "http {{ server {{ content_by_lua_block {{\n{lua}\n}} }} log_format a '$host \
                 $request_cpu_time'; }}"
            );
            let mut tokens = Tokens::new(conf.as_bytes());
            let mut is_there = false;
            while let Ok(Some((words, _))) = tokens.directive() {
                is_there |= words.iter().map(Vec::as_slice).eq([
                    &b"log_format"[..],
                    b"a",
                    b"$host $request_cpu_time",
                ]);
            }
            assert!(is_there, "{lua}");
        }
    }
}
