//! Counters that outlive a reload, a binary upgrade and a restart.

pub mod descriptors;
pub mod kept;
pub mod lifecycle;
pub mod memory;
pub mod origin;
pub mod state;
pub mod tables;
pub mod workers;
