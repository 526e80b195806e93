//! Memory that a request holds.

use nginx_sys::{ngx_http_request_t, ngx_pool_large_t};

use super::allocator;

/// As many large pieces of memory are looked at in a request.
const MAX_LARGE: usize = 1000;

/// Memory that a request holds, in bytes: all of its pool, and the buffer that its header was read into. Large pieces of the pool
/// are missing where the allocator does not tell their sizes. None if it is being freed (`ngx_http_free_request`).
///
/// # Safety
/// `r` must be a request that has not been freed.
#[inline]
pub unsafe fn memory_of(r: *const ngx_http_request_t) -> Option<u64> {
    // SAFETY: as the caller says. A pool is a chain of blocks, each with its end (`ngx_create_pool`, `ngx_palloc_block`), and a
    // list of large pieces, which may be freed (`ngx_pfree`).
    unsafe {
        let pool = (*r).pool.as_ref()?;
        let mut bytes = 0;
        let mut block = core::ptr::from_ref(pool);
        while let Some(this) = block.as_ref() {
            bytes += this.d.end.addr() - block.addr();
            block = this.d.next;
        }
        if !pool.large.is_null() {
            bytes += large_bytes(pool.large);
        }
        // a stream of HTTP/2 has it in its pool (`ngx_http_v2_create_stream`)
        if let Some(header) = (*r).header_in.as_ref()
            && (*r).stream.is_null()
        {
            bytes += header.end.addr() - header.start.addr();
        }
        Some(bytes as u64)
    }
}

unsafe fn large_bytes(first: *const ngx_pool_large_t) -> usize {
    let mut bytes = 0;
    let mut large = first;
    for _ in 0..MAX_LARGE {
        // SAFETY: a list of a pool's, of what `ngx_alloc` and `ngx_memalign` have got from the system's allocator.
        unsafe {
            let Some(this) = large.as_ref() else { break };
            if !this.alloc.is_null() {
                bytes += allocator::size_of_piece(this.alloc);
            }
            large = this.next;
        }
    }
    bytes
}
