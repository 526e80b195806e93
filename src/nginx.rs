//! NGINX, typed: its structures as far as this module needs them. Nothing here knows about CPU time.

#[macro_use]
mod global;

pub mod allocator;
pub mod bits;
pub mod conf;
pub mod content;
pub mod cycle;
pub mod directive;
pub mod event;
pub mod file;
pub mod hook;
pub mod location;
pub mod log;
pub mod module;
pub mod mutex;
pub mod next_turn;
pub mod pool;
pub mod process;
pub mod server;
pub mod shared_memory;
pub mod text;
pub mod thread;
pub mod time;
pub mod timer;
pub mod variable;
