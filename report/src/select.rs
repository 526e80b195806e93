//! The arguments that choose domains, zones and servers.

mod filter;
mod names;
mod pattern;

pub use filter::Filter;
pub use names::Names;
pub use pattern::Pattern;
