//! Pointers in NGINX's structures that may be followed.
//!
//! For each pointer, the table gives the reason. The pointer is null, or leads to a structure that lives at least as
//! long as the structure that contains the pointer.

use nginx_sys::*;

use super::live::{Live, get, member, of_static};

macro_rules! links {
    ($($(#[$attribute:meta])* $from:ty, $($member:ident).+ => $link:ident: $to:ty;)*) => { $(
        $(#[$attribute])*
        impl<'a> Live<'a, $from> {
            #[inline]
            pub(super) fn $link(self) -> Option<Live<'a, $to>> {
                // SAFETY: The structure is in use, as `Live` says. The table gives the reason for the pointer.
                unsafe { Live::new((*self.as_ptr()).$($member).+.cast()) }
            }
        }
    )* };
}

/// Links that are never null.
macro_rules! certain_links {
    ($($(#[$attribute:meta])* $from:ty, $($member:ident).+ => $link:ident: $to:ty;)*) => { $(
        $(#[$attribute])*
        impl<'a> Live<'a, $from> {
            #[inline]
            pub(super) fn $link(self) -> Live<'a, $to> {
                // SAFETY: The structure is in use, as `Live` says. The table gives the reason for the pointer.
                unsafe { Live::at((*self.as_ptr()).$($member).+.cast()) }
            }
        }
    )* };
}

/// The core module's element of an array with one element for each HTTP module.
macro_rules! core_links {
    ($($(#[$attribute:meta])* $from:ty, $member:ident => $link:ident: $to:ty;)*) => { $(
        $(#[$attribute])*
        impl<'a> Live<'a, $from> {
            #[inline]
            pub(super) fn $link(self) -> Live<'a, $to> {
                let index = get!(of_static!(ngx_http_core_module), ctx_index);
                // SAFETY: As for a link that is never null. The core module is in each cycle that has such arrays.
                unsafe { Live::at((*(*self.as_ptr()).$member.add(index)).cast()) }
            }
        }
    )* };
}

/// Arrays of structures. For each array, the table names the function of NGINX that shows the type of the elements.
macro_rules! arrays {
    ($($(#[$attribute:meta])* $from:ty, $member:ident => $array:ident: $to:ty;)*) => { $(
        $(#[$attribute])*
        impl<'a> Live<'a, $from> {
            pub(super) fn $array(self) -> impl ExactSizeIterator<Item = Live<'a, $to>> {
                // SAFETY: The table gives the type of the elements.
                unsafe { elements(member!(self, $member)) }
            }
        }
    )* };
}

/// The elements of an array.
///
/// # Safety
/// The elements must be of type `T`.
pub(super) unsafe fn elements<'a, T: 'a>(
    array: Live<'a, ngx_array_t>,
) -> impl ExactSizeIterator<Item = Live<'a, T>> {
    let first: *mut T = get!(array, elts).cast();
    // SAFETY: The index is within the array. The array does not move while no further configuration is read.
    (0..get!(array, nelts)).map(move |at| unsafe { Live::at(first.add(at)) })
}

core_links! {
    /// An `ngx_http_conf_ctx_t` has arrays with an element for each HTTP module.
    ngx_http_conf_ctx_t, main_conf => core_main_conf: ngx_http_core_main_conf_t;
    ngx_http_conf_ctx_t, loc_conf => core_loc_conf: ngx_http_core_loc_conf_t;
    /// A request has the same arrays: those of its server and of its location.
    ngx_http_request_t, main_conf => core_main_conf: ngx_http_core_main_conf_t;
    ngx_http_request_t, loc_conf => core_loc_conf: ngx_http_core_loc_conf_t;
}

arrays! {
    /// `ngx_create_listening`
    ngx_cycle_t, listening => sockets: ngx_listening_t;
    /// `ngx_http_init_phases`
    ngx_http_phase_t, handlers => handlers: ngx_http_handler_pt;
    /// `ngx_http_get_variable_index`
    ngx_http_core_main_conf_t, variables => indexed_variables: ngx_http_variable_t;
    /// `ngx_http_core_create_main_conf`
    ngx_http_core_main_conf_t, servers => servers: *mut ngx_http_core_srv_conf_t;
    /// `ngx_http_add_address`
    ngx_http_conf_port_t, addrs => addresses: ngx_http_conf_addr_t;
    /// `ngx_http_add_server`
    ngx_http_conf_addr_t, servers => servers: *mut ngx_http_core_srv_conf_t;
}

certain_links! {
    /// A server has the configurations of all modules (`ngx_http_core_server`).
    ngx_http_core_srv_conf_t, ctx => configurations: ngx_http_conf_ctx_t;
    /// Shared memory begins with a slab pool (`ngx_init_zone_pool`).
    ngx_shm_zone_t, shm.addr => slab_pool: ngx_slab_pool_t;

    /// Each request has a main request, which outlives its subrequests.
    ngx_http_request_t, main => main_request: ngx_http_request_t;
    /// Each request has a connection, which outlives it. With HTTP/2 and HTTP/3 it is the stream's.
    ngx_http_request_t, connection => connection: ngx_connection_t;

    /// The configuration that is being read has a file, because directives of `http` cannot be in `-g`.
    ngx_conf_t, conf_file => file: ngx_conf_file_t;
    /// The configuration that is being read has a cycle, which is being made.
    ngx_conf_t, cycle => cycle: ngx_cycle_t;
    /// The configuration that is being read has a pool: the cycle's.
    ngx_conf_t, pool => pool: ngx_pool_t;

    /// Links of a queue lead to nodes of the same queue, or to its head.
    ngx_queue_t, next => next: ngx_queue_t;
    /// As above.
    ngx_queue_t, prev => previous: ngx_queue_t;
    /// A tree contains its sentinel in the place of missing nodes (`ngx_rbtree_init`).
    ngx_rbtree_t, root => root: ngx_rbtree_node_t;
    /// As above.
    ngx_rbtree_t, sentinel => sentinel: ngx_rbtree_node_t;
    /// As above.
    ngx_rbtree_node_t, left => left: ngx_rbtree_node_t;
}

links! {
    /// Null while the request is being freed (`ngx_http_free_request`).
    ngx_http_request_t, pool => pool: ngx_pool_t;
    /// The buffer belongs to the connection, or is in the request's pool.
    ngx_http_request_t, header_in => header_buffer: ngx_buf_t;
    #[cfg(ngx_feature = "http_v2")]
    /// The structure is in the request's pool.
    ngx_http_request_t, request_body => body: ngx_http_request_body_t;
    /// The structure is in the request's pool.
    #[cfg(ngx_feature = "http_cache")]
    ngx_http_request_t, upstream => upstream: ngx_http_upstream_t;
    /// The stream lives as long as its request.
    #[cfg(ngx_feature = "http_v2")]
    ngx_http_request_t, stream => stream: ngx_http_v2_stream_t;

    /// An open connection has its events.
    ngx_connection_t, read => read_event: ngx_event_t;
    /// As above.
    ngx_connection_t, write => write_event: ngx_event_t;
    /// An open connection has its pool.
    ngx_connection_t, pool => pool: ngx_pool_t;
    /// The log of an open connection is valid. `ngx_http_upstream_free_keepalive_peer` and its like set it to null for
    /// a time.
    ngx_connection_t, log => log: ngx_log_t;
    /// The listening socket is one of the cycle's. These live as long as the cycle.
    ngx_connection_t, listening => listening: ngx_listening_t;
    /// The connection is in the cycle's array of connections. `ngx_close_listening_sockets` does not clear this
    /// pointer, so the connection may then be in use for another purpose.
    ngx_listening_t, connection => connection: ngx_connection_t;
    /// The structure is in the connection's pool.
    #[cfg(ngx_feature = "ssl")]
    ngx_connection_t, ssl => tls: ngx_ssl_connection_t;
    /// The structure is in the connection's pool.
    #[cfg(ngx_feature = "threads")]
    ngx_connection_t, sendfile_task => sending_task: ngx_thread_task_t;
    /// The QUIC stream lives as long as the connection of the stream.
    #[cfg(ngx_feature = "http_v3")]
    ngx_connection_t, quic => quic_stream: ngx_quic_stream_t;
    /// The QUIC connection outlives its streams (`ngx_quic_create_stream`).
    #[cfg(ngx_feature = "http_v3")]
    ngx_quic_stream_t, parent => parent: ngx_connection_t;

    /// The previous cycle, while it exists: `ngx_init_cycle` clears this pointer when it destroys that cycle.
    ngx_cycle_t, old_cycle => previous: ngx_cycle_t;
    /// A cycle has a log, which lives as long as the cycle.
    ngx_cycle_t, log => log: ngx_log_t;
    /// The next log of a chain. All logs of a chain belong to one cycle (`ngx_log_set_log`).
    ngx_log_t, next => next: ngx_log_t;
    /// The file belongs to the same cycle.
    ngx_log_t, file => file: ngx_open_file_t;
    /// The array exists as soon as there is a server (`ngx_http_add_listen`).
    ngx_http_core_main_conf_t, ports => ports: ngx_array_t;

    /// The log is valid as long as the structure that uses it. A timer of another module may have no log.
    ngx_event_t, log => log: ngx_log_t;
    /// `ngx_http_free_request` clears it.
    ngx_http_log_ctx_t, request => request: ngx_http_request_t;
    /// The connection to which the log belongs.
    ngx_http_log_ctx_t, connection => connection: ngx_connection_t;

    /// The state of HTTP/2 is in the pool of the connection.
    #[cfg(ngx_feature = "http_v2")]
    ngx_http_v2_connection_t, connection => connection: ngx_connection_t;
    /// The connection outlives its streams.
    #[cfg(ngx_feature = "http_v2")]
    ngx_http_v2_stream_t, connection => h2c: ngx_http_v2_connection_t;
    /// A stream has its node until it is closed (`ngx_http_v2_create_stream`).
    #[cfg(ngx_feature = "http_v2")]
    ngx_http_v2_stream_t, node => node: ngx_http_v2_node_t;
    /// The buffer is in the pool of the stream's request.
    #[cfg(ngx_feature = "http_v2")]
    ngx_http_v2_stream_t, preread => preread: ngx_buf_t;

    /// A pool is a chain of blocks (`ngx_palloc_block`).
    ngx_pool_t, d.next => next_block: ngx_pool_t;
    /// The list is in the pool.
    ngx_pool_t, large => first_large: ngx_pool_large_t;
    ngx_pool_large_t, next => next: ngx_pool_large_t;
    /// A list is a chain of arrays in one pool (`ngx_list_push`).
    ngx_list_part_t, next => next: ngx_list_part_t;
    /// The list is in the pool.
    ngx_pool_t, cleanup => first_cleanup: ngx_pool_cleanup_t;
    ngx_pool_cleanup_t, next => next: ngx_pool_cleanup_t;

    /// All links of a chain of buffers live as long as its first link. Each link has a buffer.
    #[cfg(ngx_feature = "threads")]
    ngx_chain_t, next => next: ngx_chain_t;
    #[cfg(ngx_feature = "threads")]
    ngx_chain_t, buf => buffer: ngx_buf_t;
    /// A buffer that is part of a file has a pointer to that file.
    #[cfg(ngx_feature = "threads")]
    ngx_buf_t, file => file: ngx_file_t;
}
