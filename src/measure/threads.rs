//! What a pool's thread uses while it sends a file for a request.
//!
//! With `sendfile` and `aio threads` it is a thread of the pool that sends (`ngx_linux_sendfile_thread`), and nearly all of a large
//! answer's CPU is there. The way to it leads through fields that are public: a connection's `send_chain`, which NGINX takes from
//! `ngx_io`; its `sendfile_task`; and the `thread_handler` of the file, which posts that. So we measure around the task's handler,
//! in the pool's thread, and charge it when the task completes, in the worker's own.
//!
//! Files that are read into buffers, the cache's headers and temporary files pass no such place before their first task is
//! posted: static functions of NGINX choose their handlers (`ngx_http_copy_filter`, `ngx_http_file_cache_aio_read`,
//! `ngx_http_upstream_send_response`) and post in the same breath.

use core::ffi::c_void;

use nginx_sys::{
    NGX_ERROR, ngx_chain_t, ngx_connection_t, ngx_event_t, ngx_file_t, ngx_http_request_t, ngx_int_t, ngx_io,
    ngx_log_t, ngx_thread_task_t, off_t,
};

use crate::measure::charge::Charge;
use crate::measure::clock::thread_cpu_ns;
use crate::nginx::bits;
use crate::nginx::hook::{Hook, Hooks};

/// `NGX_CHAIN_ERROR`
const NGX_CHAIN_ERROR: *mut ngx_chain_t = core::ptr::without_provenance_mut(usize::MAX);

type SendChain = unsafe extern "C" fn(*mut ngx_connection_t, *mut ngx_chain_t, off_t) -> *mut ngx_chain_t;
type Post = unsafe extern "C" fn(*mut ngx_thread_task_t, *mut ngx_file_t) -> ngx_int_t;
type Task = unsafe extern "C" fn(*mut c_void, *mut ngx_log_t);
type Complete = unsafe extern "C" fn(*mut ngx_event_t);

static SEND_CHAIN: Hook<SendChain> = Hook::new();
/// The `thread_handler` of the file that is being sent.
static POST: Hook<Post> = Hook::new();
/// `ngx_linux_sendfile_thread_handler`, once it is known.
static SEND_FILE: Hooks<Task, 1> = Hooks::new();
/// `ngx_http_copy_thread_event_handler` and `ngx_http_upstream_thread_event_handler`, once they are known.
static COMPLETE: Hooks<Complete, 2> = Hooks::new();

/// What is told to the layer above.
pub trait PoolThreads: Charge {
    /// Whether this process measures.
    fn is_measuring() -> bool;

    /// A thread of a pool has worked `ns` nanoseconds for a request, whose turn it is now.
    ///
    /// # Safety
    /// `r` must be a request that has not been freed.
    unsafe fn charge_pool_thread(r: *mut ngx_http_request_t, ns: u64);
}

/// Called in `init_process`: connections get their functions from `ngx_io` when they are accepted, which is later.
pub fn hook<W: PoolThreads>() {
    // SAFETY: this process has one thread that uses it, and it is here.
    unsafe {
        SEND_CHAIN.replace(&raw mut ngx_io.send_chain, send_chain::<W>);
    }
}

/// In the place of `ngx_linux_sendfile_chain`.
unsafe extern "C" fn send_chain<W: PoolThreads>(
    c: *mut ngx_connection_t,
    chain: *mut ngx_chain_t,
    limit: off_t,
) -> *mut ngx_chain_t {
    let Some(real) = SEND_CHAIN.real() else { return NGX_CHAIN_ERROR };
    // SAFETY: as NGINX called us. Buffers and their file outlive the call, and a thread that is at work on the file reads no
    // more of it than its descriptor.
    unsafe {
        let Some(file) = threaded_file(chain).filter(|_| W::is_measuring()) else {
            return real(c, chain, limit);
        };
        let post = (*file).thread_handler.replace(post);
        POST.remember(post);
        let rest = real(c, chain, limit);
        (*file).thread_handler = post;
        watch_completion::<W>((*c).sendfile_task);
        rest
    }
}

/// The file that is sent next, if a pool's thread is to do it.
unsafe fn threaded_file(mut chain: *mut ngx_chain_t) -> Option<*mut ngx_file_t> {
    // SAFETY: a chain of NGINX's; each link has a buffer, and a buffer that is in a file has that.
    unsafe {
        while let Some(link) = chain.as_ref() {
            if bits::buf::IN_FILE.is_set(link.buf) {
                let file = (*link.buf).file;
                return (*file).thread_handler.is_some().then_some(file);
            }
            chain = link.next;
        }
    }
    None
}

/// In the place of `ngx_http_copy_thread_handler` and its like, which post the task.
unsafe extern "C" fn post(task: *mut ngx_thread_task_t, file: *mut ngx_file_t) -> ngx_int_t {
    let Some(real) = POST.real() else { return NGX_ERROR as ngx_int_t };
    // SAFETY: `ngx_linux_sendfile_thread` calls with the connection's task, in the midst of `send_chain`. Nobody else has a
    // task that is not active; its handler is set once, when it is made.
    unsafe {
        let event = &raw const (*task).event;
        // where `ngx_thread_task_alloc` puts a task's context: from there `run` finds the task again
        let is_found = core::ptr::addr_eq((*task).ctx, task.add(1));
        if let Some(handler) = (*task).handler
            && handler as usize != run as *const () as usize
            && !bits::event::ACTIVE.is_set(event)
            && is_found
            && SEND_FILE.number_of(handler).is_some()
        {
            (*task).handler = Some(run);
        }
        real(task, file)
    }
}

/// In the place of `ngx_linux_sendfile_thread_handler`, in a thread of the pool.
unsafe extern "C" fn run(context: *mut c_void, log: *mut ngx_log_t) {
    let start_ns = thread_cpu_ns();
    let Some(real) = SEND_FILE.real(0) else { return };
    // SAFETY: `post` has put us in the place of this function, and has seen to it that the task stands before its context. The task is this thread's until it is done; NGINX's locks are between that and any other thread's
    // use of it. `index` is for events of the worker's event method, which a task's is not: nobody else uses it.
    unsafe {
        real(context, log);
        let task = context.cast::<ngx_thread_task_t>().sub(1);
        (*task).event.index += thread_cpu_ns().saturating_sub(start_ns) as usize;
    }
}

/// A task that was posted just now tells us when it completes.
unsafe fn watch_completion<W: PoolThreads>(task: *mut ngx_thread_task_t) {
    // SAFETY: null, or the connection's task. The thread that may be at work on it does not touch its event's handler:
    // `ngx_thread_pool_handler` calls that, in this thread.
    unsafe {
        let Some(event) = task.as_mut().map(|task| &mut task.event) else { return };
        if bits::event::ACTIVE.is_set(event) {
            COMPLETE.replace(&raw mut event.handler, &[completed::<W, 0>, completed::<W, 1>]);
        }
    }
}

/// In the place of `ngx_http_copy_thread_event_handler` and its like.
unsafe extern "C" fn completed<W: PoolThreads, const AT: usize>(event: *mut ngx_event_t) {
    // SAFETY: `watch_completion` has stored a function of this type before it put us in its place. The event's data is the
    // request, which is kept until then by `r->main->blocked`. At a timeout the task still runs.
    unsafe {
        if !bits::event::TIMEDOUT.is_set(event) {
            let ns = core::mem::take(&mut (*event).index);
            W::charge_pool_thread((*event).data.cast::<ngx_http_request_t>(), ns as u64);
        }
        if let Some(real) = COMPLETE.real(AT) {
            real(event);
        }
    }
}
