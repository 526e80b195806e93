//! Reads log files line by line: plain or compressed, any number of them, and standard input.
//!
//! One thread reads and decompresses, and cuts what it has read into blocks of whole lines; others take a
//! block at a time. So a log may be of any size: in memory are a few blocks, and what the caller keeps.

mod blocks;
mod copies;
mod files;
mod fold;
mod format;
mod marks;
mod open;
mod options;
mod peek;
mod prefix;
pub mod progress;
mod summary;
mod unpack;

pub use files::{identity, is_regular, name};
pub use fold::{LinePlace, fold, fold_places};
pub use options::{Broken, Options};
