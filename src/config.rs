//! Directives: their types, how they are read, inherited and checked.
//!
//! The parts of a configuration ([`zone`], [`log`], [`limit`] …) are put together in [`main`] (what is in
//! `http`) and in [`location`]. [`directives`] read them, [`resolve`] finds what they name, [`advice`] warns of
//! mistakes. What upper layers do with a configuration at run time, they attach to its parts ([`attached`]).

pub mod advice;
pub mod attached;
pub mod directives;
pub mod key;
pub mod limit;
pub mod list;
pub mod location;
pub mod log;
pub mod main;
pub mod place;
pub mod resolve;
pub mod status;
pub mod zone;
pub mod zone_use;
