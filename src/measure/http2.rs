//! HTTP/2: a connection that carries several requests at a time.

pub mod frames;
pub mod sending;
