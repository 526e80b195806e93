//! Owners of laps.

/// The owner of the running lap. `R` is the identity of a main request. Only the layer above knows its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<R> {
    /// The event loop itself.
    Loop,
    /// A listening socket. Its laps are charged to the loop until a connection is accepted.
    Listener,
    /// A handler call that is not attributed yet.
    Nobody,
    /// A client's connection between requests, by its index in `cycle->connections`.
    Connection(usize),
    /// A client's connection that receives the header of a request. The request is not known yet.
    Header(usize),
    /// A client's connection that sends for several requests at once.
    Sending(usize),
    #[cfg(ngx_feature = "http_v2")]
    /// Several requests. The lap is divided at once.
    Apart,
    /// A connection that was closed without a request, or that is not HTTP.
    NoRequest,
    /// A request that has not been freed.
    Request(R),
    /// The accounts of a request that was freed.
    Accounts,
}
