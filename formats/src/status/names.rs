//! Names of members of the status document that hold other objects.

pub(crate) const WORKERS: &str = "workers";
pub(crate) const ZONES: &str = "zones";
pub(crate) const KEYS: &str = "keys";
pub(crate) const WINDOWS: &str = "windows";
pub(crate) const ERROR: &str = "error";
/// Documents of later versions may contain their version.
pub(crate) const FORMAT: &str = "format";
