//! Counters that outlive a reload, a binary upgrade and a restart.

pub mod memory;
pub mod state;
pub mod zones;
