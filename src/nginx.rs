//! NGINX, typed: its structures as far as this module needs them. Nothing here knows about CPU time.

pub mod allocator;
pub mod array;
pub mod bits;
pub mod cycle;
pub mod event;
pub mod hook;
pub mod location;
pub mod log;
pub mod pool;
pub mod process;
pub mod thread;
pub mod time;
pub mod timer;
pub mod variable;
