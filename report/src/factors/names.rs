//! The variables that fields are taken from, and the options that choose others.

use anyhow::bail;

use super::fields::{Field, Set};
use super::part::RequestPart;

/// The roles of `--field`.
const ROLES: [(&str, Field, &[Field]); 9] = [
    // the first field gets the variable, and the others none
    ("cpu", Field::CpuSeconds, &[Field::CpuNs]),
    ("cpu_ns", Field::CpuNs, &[Field::CpuSeconds]),
    ("order", Field::Order, &[]),
    ("cache", Field::Cache, &[]),
    ("bytes", Field::Bytes, &[Field::BodyBytes]),
    ("domain", Field::ServerName, &[Field::Host]),
    ("cipher", Field::Cipher, &[Field::TlsKey]),
    ("session", Field::Session, &[]),
    ("time", Field::Iso8601, &[Field::Msec, Field::TimeLocal]),
];

/// Which variable a field is taken from; for JSON, which member.
#[derive(Clone, Debug)]
pub struct FieldNames(Vec<(String, Field)>);

impl Default for FieldNames {
    fn default() -> Self {
        let names = [
            ("request_cpu_ns", Field::CpuNs),
            ("request_cpu_time", Field::CpuSeconds),
            ("connection_requests", Field::Order),
            ("upstream_cache_status", Field::Cache),
            ("bytes_sent", Field::Bytes),
            ("body_bytes_sent", Field::BodyBytes),
            ("server_name", Field::ServerName),
            ("host", Field::Host),
            ("tls_key", Field::TlsKey),
            ("ssl_cipher", Field::Cipher),
            ("ssl_protocol", Field::Protocol),
            ("ssl_session_reused", Field::Session),
            ("msec", Field::Msec),
            ("time_iso8601", Field::Iso8601),
            ("time_local", Field::TimeLocal),
            ("request_cpu_subrequest", Field::Subrequest),
            ("request_id", Field::RequestId),
        ];
        Self(names.map(|(name, field)| (name.to_owned(), field)).to_vec())
    }
}

impl FieldNames {
    /// `role=variable`, as it was given on the command line.
    pub fn rename(&mut self, role_and_name: &str) -> anyhow::Result<()> {
        let Some((role, name)) = role_and_name.split_once('=') else {
            bail!("invalid field \"{role_and_name}\", it must be ROLE=VARIABLE");
        };
        let Some((_, field, others)) = ROLES.iter().find(|(known, ..)| *known == role) else {
            let known: Vec<&str> = ROLES.iter().map(|(known, ..)| *known).collect();
            bail!("invalid role \"{role}\" in \"{role_and_name}\", it must be one of {}", known.join(", "));
        };
        self.0.retain(|(_, known)| known != field && !others.contains(known));
        self.add(name, *field)
    }

    /// Takes what the first figure is split by from this variable.
    pub fn split_by(&mut self, name: &str) -> anyhow::Result<()> {
        self.0.retain(|(_, known)| !matches!(known, Field::TlsKey | Field::Cipher));
        self.add(name, Field::Split)
    }

    /// Adds up by the values of this variable. Parts of `$request` are taken from it if the log has no better
    /// variable.
    pub fn add_up_by(&mut self, name: &str) -> anyhow::Result<()> {
        self.add(name, Field::By)?;
        if let Some(part) = RequestPart::of(self.name(Field::By)) {
            self.add("request", Field::Request)?;
            if part == RequestPart::Path {
                self.add("request_uri", Field::RequestUri)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, field: Field) -> anyhow::Result<()> {
        let name = name.strip_prefix('$').unwrap_or(name);
        if name.is_empty() {
            bail!("the name of a variable is missing");
        }
        self.0.push((name.to_owned(), field));
        Ok(())
    }

    /// The fields that a variable tells.
    pub fn fields(&self, name: &[u8]) -> Set {
        let mut fields = Set::default();
        for (known, field) in &self.0 {
            if known.as_bytes().eq_ignore_ascii_case(name) {
                fields.insert(*field);
            }
        }
        fields
    }

    /// The name of the variable that a field is taken from.
    pub fn name(&self, field: Field) -> &str {
        self.0.iter().find(|(_, known)| *known == field).map_or("-", |(name, _)| name)
    }

    /// The names of those fields that have one, for a message.
    pub fn any_of(&self, fields: &[Field]) -> String {
        let known = self.0.iter().filter(|(_, field)| fields.contains(field));
        known.map(|(name, _)| format!("${name}")).collect::<Vec<_>>().join(" or ")
    }
}

/// The field that a role of `--field` is about: the `cpu` of `cpu=my_cpu`.
pub fn field_of_role(role_and_name: &str) -> Option<Field> {
    let (role, _) = role_and_name.split_once('=')?;
    ROLES.iter().find(|(known, ..)| *known == role).map(|(_, field, _)| *field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_can_be_taken_from_another_variable() {
        let mut names = FieldNames::default();
        names.rename("cpu=my_cpu").unwrap();
        names.rename("domain=$tenant").unwrap();
        names.split_by("tenant").unwrap();
        assert_eq!(names.fields(b"my_cpu").iter().collect::<Vec<_>>(), [Field::CpuSeconds]);
        assert_eq!(names.fields(b"tenant").iter().collect::<Vec<_>>(), [Field::ServerName, Field::Split]);
        for gone in ["request_cpu_ns", "request_cpu_time", "host", "server_name", "tls_key"] {
            assert!(names.fields(gone.as_bytes()).is_empty(), "{gone}");
        }
        let message = |text: &str| FieldNames::default().rename(text).unwrap_err().to_string();
        assert_eq!(message("cpu"), "invalid field \"cpu\", it must be ROLE=VARIABLE");
        assert!(
            message("cpus=x")
                .starts_with("invalid role \"cpus\" in \"cpus=x\", it must be one of cpu, cpu_ns,")
        );
        assert_eq!(message("cpu="), "the name of a variable is missing");
    }
}
