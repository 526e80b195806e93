//! NGINX's configuration: its words, and the directives in the output of `nginx -T`.

mod dump;
pub mod include;
pub mod tree;
pub mod words;

pub use dump::Dump;
