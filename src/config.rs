//! Directives: their types, and how they are read, inherited and checked.
//!
//! The parts of a configuration ([`zone`], [`log`], [`limit`] …) are put together in [`main`] (the level `http`) and
//! in [`location`]. [`directives`] reads them, [`resolve`] finds the zones that they name, and [`advice`] warns of
//! mistakes. Upper layers attach their run-time state to these parts ([`attached`]).

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
