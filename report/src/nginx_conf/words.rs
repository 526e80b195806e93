//! The words of a configuration, as `ngx_conf_read_token` reads them.

use std::iter::Peekable;
use std::slice::Iter;

/// An unclosed quote, or text right after a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotes;

/// Where a directive ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// with `;`, or with the text
    #[default]
    Other,
    /// where its block begins
    Open,
    /// where the block that it is in ends
    Close,
}

/// The words of a directive, and its end.
pub type Directive = (Vec<Vec<u8>>, End);

/// The directives of a configuration, as `ngx_conf_read_token` reads them.
pub struct Tokens<'a> {
    pub rest: Peekable<Iter<'a, u8>>,
    bytes: usize,
    start: usize,
}

impl<'a> Tokens<'a> {
    /// The directives of this text.
    pub fn new(conf: &'a [u8]) -> Self {
        Self { rest: conf.iter().peekable(), bytes: conf.len(), start: 0 }
    }

    /// The position in the text at which the last directive began.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The words of the next directive, without quotes, and its end. None at the end of the text. The last
    /// directive may lack its `;`.
    pub fn directive(&mut self) -> Result<Option<Directive>, Quotes> {
        let mut words: Vec<Vec<u8>> = Vec::new();
        while let Some(&byte) = self.rest.next() {
            if words.is_empty() {
                self.start = self.bytes - self.rest.len() - 1;
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'#' => while self.rest.next().is_some_and(|byte| *byte != b'\n') {},
                b';' => return Ok(Some((words, End::Other))),
                b'}' => return Ok(Some((words, End::Close))),
                b'{' => {
                    if words.first().is_some_and(|word| word.ends_with(b"_by_lua_block")) {
                        self.skip_block();
                        return Ok(Some((words, End::Other)));
                    }
                    return Ok(Some((words, End::Open)));
                }
                b'"' | b'\'' => words.push(self.quoted(byte)?),
                _ => words.push(self.plain(byte)),
            }
        }
        Ok((!words.is_empty()).then_some((words, End::Other)))
    }

    pub fn quoted(&mut self, quote: u8) -> Result<Vec<u8>, Quotes> {
        let mut word = Vec::new();
        loop {
            match self.rest.next() {
                None => return Err(Quotes),
                Some(b'\\') => word.extend([b'\\'].into_iter().chain(self.rest.next().copied())),
                Some(&byte) if byte == quote => break,
                Some(&byte) => word.push(byte),
            }
        }
        match self.rest.peek() {
            None | Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b')') => Ok(unescape(&word)),
            Some(_) => Err(Quotes),
        }
    }

    fn plain(&mut self, first: u8) -> Vec<u8> {
        let mut word = vec![first];
        let mut is_escaped = first == b'\\';
        while let Some(&&byte) = self.rest.peek() {
            let is_variable = byte == b'{' && word.last() == Some(&b'$');
            if !is_escaped && !is_variable && matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{') {
                break;
            }
            is_escaped = !is_escaped && byte == b'\\';
            word.push(byte);
            self.rest.next();
        }
        unescape(&word)
    }

    /// Skips a block of Lua up to its closing bracket. The opening bracket was read before.
    fn skip_block(&mut self) {
        let mut depth = 1;
        while depth > 0 {
            match self.rest.next() {
                None => return,
                Some(b'{') => depth += 1,
                Some(b'}') => depth -= 1,
                Some(&quote @ (b'"' | b'\'')) => self.skip_lua_string(quote),
                Some(b'[') => {
                    self.skip_lua_brackets();
                }
                Some(b'-') if self.rest.peek() == Some(&&b'-') => {
                    self.rest.next();
                    let is_long =
                        self.rest.next_if(|byte| **byte == b'[').is_some() && self.skip_lua_brackets();
                    if !is_long {
                        while self.rest.next().is_some_and(|byte| *byte != b'\n') {}
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn skip_lua_string(&mut self, quote: u8) {
        while let Some(&byte) = self.rest.next() {
            match byte {
                b'\\' => drop(self.rest.next()),
                byte if byte == quote => return,
                _ => {}
            }
        }
    }

    /// Skips the rest of a long Lua string after its first bracket: `[…]]`, or with equal numbers of `=`.
    /// Returns false if it is not such a string.
    fn skip_lua_brackets(&mut self) -> bool {
        let mut level = 0;
        while self.rest.next_if(|byte| **byte == b'=').is_some() {
            level += 1;
        }
        if self.rest.next_if(|byte| **byte == b'[').is_none() {
            return false;
        }
        // the number of "=" since a bracket
        let mut since = None;
        for &byte in self.rest.by_ref() {
            since = match (byte, since) {
                (b']', Some(found)) if found == level => return true,
                (b']', _) => Some(0),
                (b'=', Some(found)) => Some(found + 1),
                _ => None,
            };
        }
        true
    }
}

/// Removes the backslashes that `ngx_conf_read_token` removes; others stay.
pub fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut bytes = word.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let escaped = match (byte, bytes.peek()) {
            (b'\\', Some(b'"' | b'\'' | b'\\')) => bytes.peek().copied(),
            (b'\\', Some(b't')) => Some(b'\t'),
            (b'\\', Some(b'r')) => Some(b'\r'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            _ => None,
        };
        match escaped {
            Some(escaped) => {
                bytes.next();
                out.push(escaped);
            }
            None => out.push(byte),
        }
    }
    out
}
