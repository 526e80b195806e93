//! The fields that a log line can have, and their values in a line.

/// A field of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// CPU time of the request in nanoseconds
    CpuNs,
    /// the same in seconds
    CpuSeconds,
    /// which request of its connection it is, from 1 on
    Order,
    /// `HIT`, `MISS` and so on
    Cache,
    /// bytes sent, with the header
    Bytes,
    /// bytes sent, without the header
    BodyBytes,
    /// the domain, by configuration
    ServerName,
    /// the domain, as the client asked for it
    Host,
    /// what the first figure is split by, if it is asked for
    Split,
    /// the kind of key of the server's certificate
    TlsKey,
    /// the cipher suite, which names the kind of key up to TLS 1.2
    Cipher,
    /// the TLS version; `-` without TLS
    Protocol,
    /// `r` if the TLS session is one of an earlier connection
    Session,
    /// seconds since 1970
    Msec,
    /// as `2026-01-31T12:00:00+00:00`
    Iso8601,
    /// as `31/Jan/2026:12:00:00 +0000`
    TimeLocal,
    /// `1` in the line of a subrequest
    Subrequest,
    /// a number that each main request has for itself
    RequestId,
    /// what `--by` asks for
    By,
    /// method, URI and protocol, which `--by` takes parts of
    Request,
    /// path and arguments, which `--by` takes the path of
    RequestUri,
}

impl Field {
    /// All values.
    const ALL: [Self; FIELDS] = [
        Self::CpuNs,
        Self::CpuSeconds,
        Self::Order,
        Self::Cache,
        Self::Bytes,
        Self::BodyBytes,
        Self::ServerName,
        Self::Host,
        Self::Split,
        Self::TlsKey,
        Self::Cipher,
        Self::Protocol,
        Self::Session,
        Self::Msec,
        Self::Iso8601,
        Self::TimeLocal,
        Self::Subrequest,
        Self::RequestId,
        Self::By,
        Self::Request,
        Self::RequestUri,
    ];
}

/// How many there are.
const FIELDS: usize = Field::RequestUri as usize + 1;

/// Some fields: a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(u32);

impl Set {
    /// Adds a field.
    pub fn insert(&mut self, field: Field) {
        self.0 |= 1 << field as u32;
    }

    /// True if it is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The fields, in the order of [`Field::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Field> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let at = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            Field::ALL.get(at as usize).copied()
        })
    }
}

/// The raw values of a line. A field has no value if it is missing, empty, `-` or null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a>([Option<&'a [u8]>; FIELDS]);

impl<'a> Fields<'a> {
    /// The value of a field.
    pub fn get(&self, field: Field) -> Option<&'a [u8]> {
        self.0[field as usize].filter(|value| !matches!(*value, b"" | b"-"))
    }

    /// Whether the line has the field, with a value or not.
    pub fn has(&self, field: Field) -> bool {
        self.0[field as usize].is_some()
    }

    /// Sets a value, also if the field has one.
    pub fn replace(&mut self, field: Field, value: &'a [u8]) {
        self.0[field as usize] = Some(value);
    }

    /// Sets a value, unless the field has one.
    pub fn set(&mut self, field: Field, value: &'a [u8]) {
        self.0[field as usize].get_or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_contains_its_fields() {
        for (at, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, at);
            let mut set = Set::default();
            assert!(set.is_empty());
            set.insert(Field::CpuNs);
            set.insert(field);
            let expected: &[Field] = if at == 0 { &[Field::CpuNs] } else { &[Field::CpuNs, field] };
            assert_eq!(set.iter().collect::<Vec<_>>(), expected);
        }
    }
}
