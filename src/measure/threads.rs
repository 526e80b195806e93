//! CPU time of a pool's thread while it sends a file for a request.
//!
//! With `sendfile` and `aio threads` it is a thread of the pool that sends (`ngx_linux_sendfile_thread`), and nearly
//! all of a large answer's CPU is there. The way to it leads through fields that are public: a connection's
//! `send_chain`, which NGINX takes from `ngx_io`; its `sendfile_task`; and the `thread_handler` of the file, which
//! posts that. So we measure around the task's handler, in the pool's thread, and charge it when the task completes,
//! in the worker's own.
//!
//! Files that are read into buffers, the cache's headers and temporary files pass no such place before their first
//! task is posted: static functions of NGINX choose their handlers (`ngx_http_copy_filter`,
//! `ngx_http_file_cache_aio_read`, `ngx_http_upstream_send_response`) and post in the same breath.

use core::ffi::c_void;
use core::marker::PhantomData;

use nginx_sys::{
    NGX_ERROR, ngx_chain_t, ngx_connection_t, ngx_file_t, ngx_int_t, ngx_log_t, ngx_thread_task_t, off_t,
};

use crate::measure::charge::Charge;
use crate::measure::clock::thread_cpu_ns;
use crate::nginx::connection::{Connection, SendChain};
use crate::nginx::event::{Event, EventHandler, HandleEvent, handle};
use crate::nginx::hook::{FnPointer, Hook, Hooks};
use crate::nginx::io;
use crate::nginx::live::Live;
use crate::nginx::request::Request;
use crate::nginx::thread_task::{Post, Run, Task, post_of_next_file, request_of, take_noted_ns};

/// `NGX_CHAIN_ERROR`
const NGX_CHAIN_ERROR: *mut ngx_chain_t = core::ptr::without_provenance_mut(usize::MAX);

static SEND_CHAIN: Hook<SendChain> = Hook::new();
/// The `thread_handler` of the file that is being sent.
static POST: Hook<Post> = Hook::new();
/// `ngx_linux_sendfile_thread_handler`, once it is known.
static SEND_FILE: Hooks<Run, 1> = Hooks::new();
/// `ngx_http_copy_thread_event_handler` and `ngx_http_upstream_thread_event_handler`, once they are known.
static COMPLETE: Hooks<EventHandler, 2> = Hooks::new();

/// What is told to the layer above.
pub trait PoolThreads: Charge {
    /// Whether this process measures.
    fn is_measuring() -> bool;

    /// A thread of a pool has worked `ns` nanoseconds for a request, whose turn it is now.
    fn charge_pool_thread(r: Request<'_>, ns: u64);
}

/// Called in `init_process`: connections get their functions from `ngx_io` when they are accepted, which is later.
pub fn hook<W: PoolThreads>() {
    SEND_CHAIN.replace(io::send_chain(), send_chain::<W>);
}

/// In the place of `ngx_linux_sendfile_chain`.
unsafe extern "C" fn send_chain<W: PoolThreads>(
    c: *mut ngx_connection_t,
    chain: *mut ngx_chain_t,
    limit: off_t,
) -> *mut ngx_chain_t {
    let Some(real) = SEND_CHAIN.real() else { return NGX_CHAIN_ERROR };
    // SAFETY: as NGINX called us: with a connection that is open. Buffers and their file outlive the call, and a
    // thread that is at work on the file reads no more of it than its descriptor.
    unsafe {
        let Some(place) = post_of_next_file(Live::new(chain)).filter(|_| W::is_measuring()) else {
            return real(c, chain, limit);
        };
        let before = place.function();
        POST.replace(place, post);
        let rest = real(c, chain, limit);
        place.set_function(before);
        watch_completion::<W>(Connection::new(c));
        rest
    }
}

/// In the place of `ngx_http_copy_thread_handler` and its like, which post the task.
unsafe extern "C" fn post(task: *mut ngx_thread_task_t, file: *mut ngx_file_t) -> ngx_int_t {
    let Some(real) = POST.real() else { return NGX_ERROR as ngx_int_t };
    // SAFETY: `ngx_linux_sendfile_thread` calls with the connection's task, in the midst of `send_chain`.
    unsafe {
        watch_run(Task::of(Live::at(task)));
        real(task, file)
    }
}

/// A task is about to be posted. Its handler is set once, when it is made.
fn watch_run(task: Task<'_>) {
    let ours: Run = run;
    if let Some(handler) = task.handler().function()
        && handler.address() != ours.address()
        && !task.is_active()
        // from there `run` finds the task again
        && task.is_before_context()
    {
        SEND_FILE.replace(task.handler(), &[ours]);
    }
}

/// In the place of `ngx_linux_sendfile_thread_handler`, in a thread of the pool.
unsafe extern "C" fn run(context: *mut c_void, log: *mut ngx_log_t) {
    let start_ns = thread_cpu_ns();
    let Some(real) = SEND_FILE.real(0) else { return };
    // SAFETY: as the pool's thread called us. `watch_run` has seen to it that the task stands before its context. The
    // task is this thread's until it is done; NGINX's locks are between that and any other thread's use of it.
    unsafe {
        real(context, log);
        Task::of_context(context).note_ns(thread_cpu_ns().saturating_sub(start_ns));
    }
}

/// A task of a connection was posted just now, if there is one: it tells us when it completes. The thread that may be
/// at work on it does not touch its event's handler.
fn watch_completion<W: PoolThreads>(c: Connection<'_>) {
    if let Some(task) = Task::of_sending(c).filter(|task| task.is_active()) {
        COMPLETE.replace(task.completion(), &[handle::<Completed<W, 0>>, handle::<Completed<W, 1>>]);
    }
}

/// In the place of `ngx_http_copy_thread_event_handler` and its like.
struct Completed<W, const AT: usize>(PhantomData<W>);

impl<W: PoolThreads, const AT: usize> HandleEvent for Completed<W, AT> {
    fn handle(event: Event<'_>) {
        // at a timeout the task still runs
        if !event.is_timed_out() {
            let ns = take_noted_ns(&event);
            // SAFETY: `watch_completion` has put us in the place of a handler of such an event.
            W::charge_pool_thread(unsafe { request_of(&event) }, ns);
        }
        COMPLETE.call(AT, event);
    }
}
