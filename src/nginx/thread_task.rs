//! Tasks of thread pools, and files that a thread of a pool sends.

use core::ffi::c_void;
use core::marker::PhantomData;

use nginx_sys::{ngx_event_t, ngx_file_t, ngx_http_request_t, ngx_int_t, ngx_log_t, ngx_thread_task_t};

use super::bits;
use super::connection::{Connection, SendChain};
use super::event::{Event, EventHandler, HandleEvent, handle};
use super::hook::{FnPointer, Hooks};
use super::live::{Live, get, member, set};
use super::request::Request;
use super::stand_in::{Call, Callable, Keeps, StandIn};

/// The type of a file's `thread_handler`, which posts a task.
pub type Post = unsafe extern "C" fn(*mut ngx_thread_task_t, *mut ngx_file_t) -> ngx_int_t;
/// The type of a task's handler.
pub type Run = unsafe extern "C" fn(*mut c_void, *mut ngx_log_t);

/// The pointer to the function that posts a task for the next file of the chain. `None` if no thread of a pool is to
/// send that file.
pub fn post_of_next_file<'a>(sending: &'a Call<'_, SendChain>) -> Option<Live<'a, Option<Post>>> {
    let mut link = sending.chain();
    while let Some(this) = link {
        let buffer = this.buffer()?;
        if bits::buf::IN_FILE.is_on(buffer) {
            let post = member!(buffer.file()?, thread_handler);
            return post.function().is_some().then_some(post);
        }
        link = this.next();
    }
    None
}

/// A task. While a thread of a pool works on it, the task belongs to that thread, except for its event. The worker's
/// own thread uses the event.
#[derive(Clone, Copy)]
pub struct Task<'a>(Live<'a, ngx_thread_task_t>);

/// The handler of a task leaves the task where it is.
impl Keeps for Run {}

impl Call<'_, Post> {
    /// The task that is about to be posted.
    pub fn task(&self) -> Task<'_> {
        // SAFETY: `ngx_linux_sendfile_thread` calls with the connection's task.
        Task(unsafe { Live::at(self.arguments.0) })
    }
}

impl Call<'_, Run> {
    /// The task that a thread of the pool works on. The task belongs to this thread until it is done. NGINX's locks
    /// separate this from any other thread's use of the task.
    pub fn task(&self) -> Task<'_> {
        // SAFETY: `ngx_thread_task_alloc` has put the task in front of its context. `Task::replace_handler` checks
        // that, and only that function puts a function of ours there.
        Task(unsafe { Live::at(self.arguments.0.cast::<ngx_thread_task_t>().sub(1)) })
    }
}

impl<'a> Task<'a> {
    /// The task with which a connection sends files.
    pub fn of_sending(c: Connection<'a>) -> Option<Task<'a>> {
        c.live().sending_task().map(Task)
    }

    /// Whether the task's context is where `ngx_thread_task_alloc` puts it.
    fn is_before_context(self) -> bool {
        core::ptr::addr_eq(get!(self.0, ctx), self.0.as_ptr().wrapping_add(1))
    }

    /// Whether the task was posted and is not complete.
    pub fn is_active(self) -> bool {
        bits::event::ACTIVE.is_on(self.event())
    }

    /// Makes `S` stand in for the function that a thread of a pool calls. Does nothing if the task is active, or is not
    /// where `S` looks for it.
    pub fn replace_handler<S: StandIn<Run>>(self, real: &Hooks<Run, 1>) {
        let (place, ours) = (member!(self.0, handler), Run::ours::<S>());
        let is_ours = |handler: Run| handler.address() == ours.address();
        if place.function().is_some_and(|handler| !is_ours(handler))
            && !self.is_active()
            && self.is_before_context()
        {
            real.replace(place, &[ours]);
        }
    }

    /// Replaces the function that the worker calls when the task is complete (`ngx_thread_pool_handler`) with one of
    /// `ours`. A thread that may work on the task does not touch this pointer.
    pub fn replace_completion<const N: usize>(
        self,
        real: &Hooks<EventHandler, N>,
        ours: [CompletionHandler; N],
    ) {
        real.replace(member!(self.event(), handler), &ours.map(|ours| ours.0));
    }

    fn event(self) -> Live<'a, ngx_event_t> {
        member!(self.0, event)
    }

    /// Adds the CPU time of a thread of a pool to the task, in nanoseconds.
    ///
    /// The time is kept in the event's `index`. That member is for events of the worker's event method. A task's event
    /// is none of these, so nobody else uses it.
    pub fn note_ns(self, ns: u64) {
        set!(self.event(), index, get!(self.event(), index).wrapping_add(ns as usize));
    }
}

/// The event of a task with which a request sends a file. `ngx_http_copy_filter` and its like have made it.
pub struct Completion<'a>(Event<'a>);

impl<'a> Completion<'a> {
    /// Returns the task's request and the CPU time that was added to the task, in nanoseconds, and resets that time.
    /// `None` at a timeout: then the task still runs.
    pub fn complete(&self) -> Option<(Request<'_>, u64)> {
        if self.0.is_timed_out() {
            return None;
        }
        let ns = get!(self.0.live(), index);
        set!(self.0.live(), index, 0);
        // SAFETY: The event's data is the request. `r->main->blocked` keeps the request until then.
        let request = unsafe { Request::new(get!(self.0.live(), data).cast::<ngx_http_request_t>()) };
        Some((request, ns as u64))
    }

    /// Calls the handler with this number, which ours stands in for.
    pub fn pass<const N: usize>(self, real: &Hooks<EventHandler, N>, number: usize) {
        real.call(number, self.0);
    }
}

/// The work at the completion of a task.
pub trait HandleCompletion {
    /// Does the work, and calls the handler that it stands in for.
    fn handle(completion: Completion<'_>);
}

/// A handler of ours for the events of tasks.
#[derive(Clone, Copy)]
pub struct CompletionHandler(EventHandler);

impl CompletionHandler {
    /// The handler that does the work of `H`.
    pub fn of<H: HandleCompletion>() -> CompletionHandler {
        CompletionHandler(handle::<OfEvent<H>>)
    }
}

struct OfEvent<H>(PhantomData<H>);

impl<H: HandleCompletion> HandleEvent for OfEvent<H> {
    fn handle(event: Event<'_>) {
        H::handle(Completion(event));
    }
}
