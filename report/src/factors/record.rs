//! The values of a line that the figures need.

use std::fmt;

use super::fields::{Field, Fields};
use super::part::{RequestPart, path};
use super::value::{integer, nanoseconds};

/// An invalid value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// the field that has it
    pub field: Field,
    /// the value, or how it begins
    pub value: String,
}

impl Invalid {
    fn new(field: Field, value: &[u8]) -> Self {
        let shown = value.get(..40).unwrap_or(value);
        let dots = if shown.len() < value.len() { "…" } else { "" };
        Self { field, value: format!("{}{dots}", String::from_utf8_lossy(shown)) }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.field {
            Field::CpuNs => "CPU time in nanoseconds",
            Field::CpuSeconds => "CPU time in seconds",
            Field::Order => "order in a connection",
            Field::Bytes | Field::BodyBytes => "number of bytes",
            _ => "time",
        };
        write!(f, "\"{}\" is not a valid {what}", self.value)
    }
}

/// The most nanoseconds of a request.
const MOST_CPU_NS: u64 = 1_000_000_000_000_000_000;

/// The values of a line that the figures need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// nanoseconds of CPU; none if the line has `-`
    pub cpu_ns: Option<u64>,
    /// which request of its connection it is
    pub order: Option<u64>,
    /// bytes that were sent
    pub bytes: Option<u64>,
    /// all other values
    pub fields: Fields<'a>,
}

impl<'a> Record<'a> {
    /// Reads the numbers among the fields.
    pub fn read_numbers(&mut self) -> Result<(), Invalid> {
        let fields = &self.fields;
        let number = |field, parse: fn(&[u8]) -> Option<u64>| match fields.get(field) {
            None => Ok(None),
            Some(value) => parse(value).map(Some).ok_or_else(|| Invalid::new(field, value)),
        };
        self.cpu_ns = match number(Field::CpuNs, integer)? {
            None => number(Field::CpuSeconds, nanoseconds)?,
            ns => ns,
        };
        // sums of larger values, above 31 years, would overflow
        if self.cpu_ns.is_some_and(|ns| ns > MOST_CPU_NS) {
            let ns = fields.get(Field::CpuNs).map(|value| (Field::CpuNs, value));
            let (field, value) = ns
                .or_else(|| fields.get(Field::CpuSeconds).map(|value| (Field::CpuSeconds, value)))
                .unwrap_or((Field::CpuNs, b""));
            return Err(Invalid::new(field, value));
        }
        self.bytes = match number(Field::Bytes, integer)? {
            None => number(Field::BodyBytes, integer)?,
            bytes => bytes,
        };
        self.order = number(Field::Order, integer)?;
        Ok(())
    }

    /// The domain; none if the line does not have it.
    pub fn domain(&self) -> Option<&'a [u8]> {
        self.fields.get(Field::ServerName).or_else(|| self.fields.get(Field::Host))
    }

    /// Whether a subrequest has written the line.
    pub fn is_subrequest(&self) -> bool {
        matches!(self.fields.get(Field::Subrequest), Some(b"1" | b"true"))
    }

    /// The value that `--by` asks for, `part` of `$request` if it is one; none if the line does not tell. The
    /// second is another variable that it was taken from.
    pub fn by(&self, part: Option<RequestPart>) -> Option<(&'a [u8], Option<Field>)> {
        let own = self.fields.has(Field::By).then(|| self.fields.get(Field::By).unwrap_or(b"-"));
        if let Some(value) = own {
            return Some((value, None));
        }
        let part = part?;
        if let Some(uri) = self.fields.get(Field::RequestUri).filter(|_| part == RequestPart::Path) {
            return Some((path(uri), Some(Field::RequestUri)));
        }
        if !self.fields.has(Field::Request) {
            return None;
        }
        let request = self.fields.get(Field::Request).unwrap_or(b"-");
        Some((part.of_request(request).unwrap_or(b"-"), Some(Field::Request)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_no_number_and_no_fault() {
        let mut fields = Fields::default();
        fields.set(Field::CpuSeconds, b"-");
        fields.set(Field::Order, b"");
        fields.set(Field::Bytes, b"12");
        fields.set(Field::Bytes, b"13");
        let mut record = Record { fields, ..Record::default() };
        record.read_numbers().unwrap();
        assert_eq!((record.cpu_ns, record.order, record.bytes), (None, None, Some(12)));
        assert!(fields.has(Field::Order) && !fields.has(Field::Cache));
        record.fields.set(Field::CpuNs, b"twelve");
        assert_eq!(
            record.read_numbers().unwrap_err().to_string(),
            "\"twelve\" is not a valid CPU time in nanoseconds"
        );
    }

    #[test]
    fn the_path_is_taken_from_any_variable_that_has_it() {
        let by = |fields: &[(Field, &'static str)]| {
            let mut record = Record::default();
            fields.iter().for_each(|(field, value)| record.fields.set(*field, value.as_bytes()));
            record.by(Some(RequestPart::Path)).map(|(value, _)| std::str::from_utf8(value).unwrap())
        };
        let (request, uri) = ((Field::Request, "GET /r?x HTTP/1.1"), (Field::RequestUri, "/u?x"));
        assert_eq!(by(&[(Field::By, "/own?x"), uri, request]), Some("/own?x"));
        assert_eq!(by(&[uri, request]), Some("/u"));
        assert_eq!(by(&[request]), Some("/r"));
        assert_eq!(by(&[(Field::Request, "")]), Some("-"));
        assert_eq!(by(&[(Field::By, ""), request]), Some("-"));
        assert_eq!(by(&[]), None);
    }
}
