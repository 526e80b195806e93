//! The status endpoint: accounts and worker totals, for people and for machines.
//!
//! An answer may have hundreds of megabytes, and its worker has other work to do. So an answer is rendered while it is
//! sent. Its pieces use the same memory, one after the other. All answers share a bounded time in each turn of the
//! event loop (`turns`). The state of an answer is in the request's pool, and is freed with it.
//!
//! The page for browsers and its assets are in [`page`](super::page).

pub mod handler;
pub mod selection;
pub mod sending;
pub mod turns;
