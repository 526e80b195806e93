//! Directives: their types, how they are parsed, inherited and checked. Imports [`nginx`](crate::nginx) and `accounting` only.

pub mod advice;
pub mod conf;
