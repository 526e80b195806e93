//! HTTP/2: a connection that carries several requests at once.

pub mod frames;
pub mod sending;
