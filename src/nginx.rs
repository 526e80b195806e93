//! NGINX's structures, typed.

pub mod bits;
pub mod event;
