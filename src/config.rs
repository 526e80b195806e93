//! Directives: their types, how they are read, inherited and checked.
//!
//! A file for each directive or idea. What upper layers do with a configuration at run time, they attach to its parts
//! ([`attached::Attached`]).

pub mod advice;
pub mod attached;
pub mod clock;
pub mod key;
pub mod limit;
pub mod list;
pub mod location;
pub mod log;
pub mod main;
pub mod parameters;
pub mod resolve;
pub mod state_path;
pub mod status;
pub mod zone;
pub mod zone_use;
