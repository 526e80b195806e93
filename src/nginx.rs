//! Typed access to NGINX's structures, as far as this module needs them. This layer does not deal with CPU time.
//!
//! A callback of NGINX turns its pointers into typed values once. From there on, the code is safe. Each typed value
//! holds a [`live::Live`]: a pointer that is valid for a lifetime. The members of its structure are read and written
//! one by one.
//!
//! The crate `ngx` is not used. It does not compile with the headers of Angie. Its types have no lifetimes, and make
//! Rust references to structures that NGINX changes. Its `HttpModule` writes to null if there is no memory, and finds
//! configurations without a check whether the cycle contains the module.

#[macro_use]
mod global;

pub mod access;
pub mod allocator;
pub mod bits;
pub mod callback;
pub mod conf;
pub mod configurations;
pub mod connection;
pub mod content;
pub mod cycle;
pub mod directive;
pub mod error_log;
pub mod event;
pub mod file;
mod functions;
pub mod hook;
#[cfg(ngx_feature = "http_v2")]
pub mod http2;
pub mod http_log;
pub mod io;
mod links;
pub mod listening;
pub mod live;
pub mod location;
pub mod log;
pub mod module;
pub mod mutex;
pub mod next_turn;
pub mod own_timer;
pub mod phase;
pub mod places;
pub mod pool;
pub mod process;
pub mod queue;
pub mod request;
pub mod served;
pub mod server;
pub mod shared_memory;
pub mod stand_in;
pub mod text;
pub mod thread;
#[cfg(ngx_feature = "threads")]
pub mod thread_task;
pub mod time;
pub mod timer;
#[cfg(ngx_feature = "ssl")]
pub mod tls;
pub mod variable;
mod zero;
