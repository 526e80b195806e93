//! CPU time of a pool's thread while it sends a file for a request.
//!
//! With `sendfile` and `aio threads`, a thread of the pool sends the file (`ngx_linux_sendfile_thread`). This thread
//! uses nearly all CPU of a large answer. The task of the thread is reachable through public fields: a connection's
//! `send_chain`, which NGINX takes from `ngx_io`; the connection's `sendfile_task`; and the `thread_handler` of the
//! file, which posts the task. So we measure around the task's handler, in the pool's thread. When the task completes,
//! the worker's own thread charges the CPU time.
//!
//! Other tasks are not measured: files that are read into buffers, headers of the cache, and temporary files. Static
//! functions of NGINX choose their handlers and post the tasks at once (`ngx_http_copy_filter`,
//! `ngx_http_file_cache_aio_read`, `ngx_http_upstream_send_response`). So no public field is used before the first task
//! is posted.

use core::marker::PhantomData;

use nginx_sys::{NGX_ERROR, ngx_chain_t, ngx_int_t};

use crate::measure::charge::Charge;
use crate::measure::clock::thread_cpu_ns;
use crate::nginx::connection::{Connection, SendChain};
use crate::nginx::event::EventHandler;
use crate::nginx::hook::{Hook, Hooks};
use crate::nginx::io;
use crate::nginx::request::Request;
use crate::nginx::stand_in::{Call, Callable, StandIn};
use crate::nginx::thread_task::{
    Completion, CompletionHandler, HandleCompletion, Post, Run, Task, post_of_next_file,
};

/// `NGX_CHAIN_ERROR`
const NGX_CHAIN_ERROR: *mut ngx_chain_t = core::ptr::without_provenance_mut(usize::MAX);

static SEND_CHAIN: Hook<SendChain> = Hook::new();
/// The `thread_handler` of the file that is being sent.
static POST: Hook<Post> = Hook::new();
/// `ngx_linux_sendfile_thread_handler`, once it is known.
static SEND_FILE: Hooks<Run, 1> = Hooks::new();
/// `ngx_http_copy_thread_event_handler` and `ngx_http_upstream_thread_event_handler`, once they are known.
static COMPLETE: Hooks<EventHandler, 2> = Hooks::new();

/// Reports to the layer above.
pub trait PoolThreads: Charge {
    /// Whether this process measures.
    fn is_measuring() -> bool;

    /// A thread of a pool has used `ns` nanoseconds for a request. NGINX goes on with that request now.
    fn charge_pool_thread(r: Request<'_>, ns: u64);
}

/// Called in `init_process`. Connections get their functions from `ngx_io` later, when they are accepted.
pub fn hook<W: PoolThreads>() {
    SEND_CHAIN.replace(io::send_chain(), SendChain::ours::<Send<W>>());
}

/// Stands in for `ngx_linux_sendfile_chain`.
struct Send<W>(PhantomData<W>);

impl<W: PoolThreads> StandIn<SendChain> for Send<W> {
    fn call(call: Call<'_, SendChain>) -> *mut ngx_chain_t {
        let Some(place) = post_of_next_file(&call).filter(|_| W::is_measuring()) else {
            return SEND_CHAIN.pass(call).unwrap_or(NGX_CHAIN_ERROR);
        };
        let before = place.function();
        POST.replace(place, Post::ours::<PostTask>());
        let rest = SEND_CHAIN.pass_kept(&call).unwrap_or(NGX_CHAIN_ERROR);
        // The file outlives the call. A thread that works on the file reads only its descriptor.
        place.set_function(before);
        watch_completion::<W>(call.connection());
        rest
    }
}

/// Stands in for `ngx_http_copy_thread_handler` and its like, which post the task.
struct PostTask;

impl StandIn<Post> for PostTask {
    fn call(call: Call<'_, Post>) -> ngx_int_t {
        // NGINX sets the task's handler once, when it makes the task.
        call.task().replace_handler::<SendFile>(&SEND_FILE);
        POST.pass(call).unwrap_or(NGX_ERROR as ngx_int_t)
    }
}

/// Stands in for `ngx_linux_sendfile_thread_handler`, in a thread of the pool.
struct SendFile;

impl StandIn<Run> for SendFile {
    fn call(call: Call<'_, Run>) {
        let start_ns = thread_cpu_ns();
        if SEND_FILE.pass_kept(0, &call).is_some() {
            call.task().note_ns(thread_cpu_ns().saturating_sub(start_ns));
        }
    }
}

/// If a task of a connection was just posted, our function is called when the task completes.
fn watch_completion<W: PoolThreads>(c: Connection<'_>) {
    if let Some(task) = Task::of_sending(c).filter(|task| task.is_active()) {
        let ours = [CompletionHandler::of::<Completed<W, 0>>(), CompletionHandler::of::<Completed<W, 1>>()];
        task.replace_completion(&COMPLETE, ours);
    }
}

/// Stands in for `ngx_http_copy_thread_event_handler` and its like.
struct Completed<W, const AT: usize>(PhantomData<W>);

impl<W: PoolThreads, const AT: usize> HandleCompletion for Completed<W, AT> {
    fn handle(completion: Completion<'_>) {
        if let Some((r, ns)) = completion.complete() {
            W::charge_pool_thread(r, ns);
        }
        completion.pass(&COMPLETE, AT);
    }
}
