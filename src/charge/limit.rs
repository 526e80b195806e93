//! `request_cpu_limit`: requests of a key that uses too much CPU are refused. See [`check`].

pub mod body;
pub mod check;
