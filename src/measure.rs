//! From an event to its owner, and from the owner to a lap of CPU time.

pub mod attribution;
pub mod clock;
pub mod event_loop;
pub mod io;
pub mod multiplex;
pub mod received;
#[cfg(ngx_feature = "threads")]
pub mod threads;
#[cfg(ngx_feature = "ssl")]
pub mod tls;
