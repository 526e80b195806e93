//! The status endpoint: accounts and worker totals, to be read by people and by machines.
//!
//! An answer may have hundreds of megabytes, and its worker has other things to do. So it is rendered while it
//! is sent, one piece after the other in the same memory, for a bounded time in each turn of the event loop,
//! which all answers share (`turns`). What is needed for that lives in the request's pool, and ends with it.
//!
//! The page for browsers and what it loads are in [`page`](super::page).

pub mod handler;
pub mod selection;
pub mod sending;
pub mod turns;
