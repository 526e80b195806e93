//! The end of a request, as far as its received bytes are concerned.

/// Where the received bytes of a request were added when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// to accounts
    InAccounts,
    /// nowhere: the request ended, and has no account
    InNone,
    /// nowhere: the request has not ended
    NotYet,
}
