//! The parameters of a directive: values by position, `name=value`, and flags.
//!
//! A directive declares its parameters, and reads them by name. Error messages have NGINX's form, with the directive,
//! the wrong value and what is allowed: `invalid zone size "8x" in "request_cpu_zone"`.

use core::fmt;

/// How a parameter is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A word alone, at most once.
    Flag,
    /// `name=value`, at most once. The value may be empty.
    Value,
    /// `name=value`, at most once. The value is not empty.
    Name,
    /// `name=value`, any number of times. The value is not empty.
    Names,
}

/// A parameter that a directive has: its name and its form.
pub type Known = (&'static str, Form);

/// The parameters that were given to a directive.
#[derive(Debug)]
pub struct Parameters<'a> {
    directive: &'static str,
    positional: Vec<&'a [u8]>,
    given: Vec<(&'static str, &'a [u8])>,
}

impl<'a> Parameters<'a> {
    /// Reads the arguments of a directive: first as many values as `positional`, then the parameters in `known`.
    ///
    /// # Errors
    /// The message for the first argument that is unknown, or given twice.
    pub fn read(
        directive: &'static str,
        arguments: impl IntoIterator<Item = &'a [u8]>,
        positional: usize,
        known: &[Known],
    ) -> Result<Parameters<'a>, String> {
        let mut arguments = arguments.into_iter();
        let positional: Vec<&[u8]> = arguments.by_ref().take(positional).collect();
        let mut parameters = Parameters { directive, positional, given: Vec::new() };
        for argument in arguments {
            let found = known.iter().find_map(|known| Some((known, value(argument, known)?)));
            let Some((&(name, form), value)) = found else { return Err(parameters.unknown(argument)) };
            if form != Form::Names && parameters.has(name) {
                let argument = Text(argument);
                return Err(format!("duplicate parameter \"{argument}\" in \"{directive}\""));
            }
            parameters.given.push((name, value));
        }
        Ok(parameters)
    }

    /// The value at this position; empty if there is none.
    pub fn at(&self, position: usize) -> &'a [u8] {
        self.positional.get(position).copied().unwrap_or_default()
    }

    /// Whether a parameter was given.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value of a parameter, if it was given.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// All values of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|&(_, value)| value)
    }

    /// The value of a parameter that must be given.
    ///
    /// # Errors
    /// The message that it is missing.
    pub fn required(&self, name: &str) -> Result<&'a [u8], String> {
        self.get(name).ok_or_else(|| format!("\"{}\" must have \"{name}\" parameter", self.directive))
    }

    /// The value of a parameter as `parse` reads it, if the parameter was given. `what` the value is and what
    /// is `allowed` are parts of the message.
    ///
    /// # Errors
    /// The message that the value is invalid.
    pub fn parse<T>(
        &self,
        name: &str,
        what: &str,
        allowed: &str,
        parse: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, String> {
        self.get(name).map(|value| self.valid(value, what, allowed, parse)).transpose()
    }

    /// A value as `parse` reads it. `what` the value is and what is `allowed` are parts of the message.
    ///
    /// # Errors
    /// The message that the value is invalid.
    pub fn valid<T>(
        &self,
        value: &'a [u8],
        what: &str,
        allowed: &str,
        parse: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<T, String> {
        parse(value).ok_or_else(|| {
            format!("invalid {what} \"{}\" in \"{}\", it must be {allowed}", Text(value), self.directive)
        })
    }

    /// The message that the directive has no such parameter.
    pub fn unknown(&self, argument: &[u8]) -> String {
        format!("invalid parameter \"{}\" in \"{}\"", Text(argument), self.directive)
    }
}

/// The value of an argument that is this parameter; a flag's is empty.
fn value<'a>(argument: &'a [u8], &(name, form): &Known) -> Option<&'a [u8]> {
    let rest = argument.strip_prefix(name.as_bytes())?;
    match form {
        Form::Flag => rest.is_empty().then_some(rest),
        Form::Value => rest.strip_prefix(b"="),
        Form::Name | Form::Names => rest.strip_prefix(b"=").filter(|value| !value.is_empty()),
    }
}

/// Text of a configuration in a message. Bytes that are not UTF-8 are shown as `\xff`.
pub struct Text<'a>(pub &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.utf8_chunks().try_for_each(|chunk| {
            f.write_str(chunk.valid())?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
        })
    }
}

#[cfg(test)]
mod tests;
