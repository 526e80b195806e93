//! Laps are added to requests, accounts and limits here.

pub mod accounts;
pub mod limit;
pub mod request;
pub mod worker;
