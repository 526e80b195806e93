//! The way from an event of NGINX to its owner, and from the owner to a lap of CPU time.
//!
//! This layer knows neither accounts nor directives. The layer above implements [`charge::Charge`] and the traits of
//! the files below. All hooks are compiled for the type that implements them.

pub mod attribution;
#[cfg(feature = "audit")]
pub mod audit;
pub mod charge;
pub mod clock;
pub mod event_loop;
#[cfg(ngx_feature = "http_v2")]
pub mod http2;
pub mod io;
pub mod laps;
pub mod listeners;
pub mod owner;
pub mod quic;
pub mod received;
#[cfg(ngx_feature = "threads")]
pub mod threads;
pub mod tls;
