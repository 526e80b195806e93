//! Tasks of thread pools, and files that a pool's thread sends.

use core::ffi::c_void;

use nginx_sys::{
    ngx_chain_t, ngx_event_t, ngx_file_t, ngx_http_request_t, ngx_int_t, ngx_log_t, ngx_thread_task_t,
};

use super::bits;
use super::connection::Connection;
use super::event::{Event, EventHandler};
use super::live::{Live, get, member, set};
use super::request::Request;

/// The type of a file's `thread_handler`, which posts a task.
pub type Post = unsafe extern "C" fn(*mut ngx_thread_task_t, *mut ngx_file_t) -> ngx_int_t;
/// The type of a task's handler.
pub type Run = unsafe extern "C" fn(*mut c_void, *mut ngx_log_t);

/// The place of the function that posts a task for the file that is sent next; `None` if no pool's thread is to send
/// it.
pub fn post_of_next_file<'a>(chain: Option<Live<'a, ngx_chain_t>>) -> Option<Live<'a, Option<Post>>> {
    let mut link = chain;
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

/// A task. A thread of a pool may be at work on it; then it is that thread's, but for its event, which the worker's
/// own thread uses.
#[derive(Clone, Copy)]
pub struct Task<'a>(Live<'a, ngx_thread_task_t>);

impl<'a> Task<'a> {
    /// A task that is there.
    pub fn of(task: Live<'a, ngx_thread_task_t>) -> Task<'a> {
        Task(task)
    }

    /// The task by which a connection sends files.
    pub fn of_sending(c: Connection<'a>) -> Option<Task<'a>> {
        c.live().sending_task().map(Task)
    }

    /// The task that `ngx_thread_task_alloc` has put in front of this context.
    ///
    /// # Safety
    /// [`Task::is_before_context`] must have held for the task, which must be there for `'a`.
    pub unsafe fn of_context(context: *mut c_void) -> Task<'a> {
        // SAFETY: as the caller says.
        Task(unsafe { Live::at(context.cast::<ngx_thread_task_t>().sub(1)) })
    }

    /// Whether its context is where `ngx_thread_task_alloc` puts it.
    pub fn is_before_context(self) -> bool {
        core::ptr::addr_eq(get!(self.0, ctx), self.0.as_ptr().wrapping_add(1))
    }

    /// Whether it was posted and is not complete.
    pub fn is_active(self) -> bool {
        bits::event::ACTIVE.is_on(self.event())
    }

    /// The place of the function that a thread of a pool calls. It is to be used while the task is not active.
    pub fn handler(self) -> Live<'a, Option<Run>> {
        member!(self.0, handler)
    }

    /// The place of the function that the worker calls when it is complete (`ngx_thread_pool_handler`).
    pub fn completion(self) -> Live<'a, Option<EventHandler>> {
        member!(self.event(), handler)
    }

    fn event(self) -> Live<'a, ngx_event_t> {
        member!(self.0, event)
    }

    /// Notes the CPU time of a thread of a pool, in nanoseconds.
    ///
    /// `index` is for events of the worker's event method, which a task's is not: nobody else uses it.
    pub fn note_ns(self, ns: u64) {
        set!(self.event(), index, get!(self.event(), index).wrapping_add(ns as usize));
    }
}

/// Takes the CPU time that was noted for the task that has this event, in nanoseconds.
pub fn take_noted_ns(event: &Event<'_>) -> u64 {
    let ns = get!(event.live(), index);
    set!(event.live(), index, 0);
    ns as u64
}

/// The request of the event of a task of `ngx_http_copy_filter` and its like.
///
/// # Safety
/// The event must be such a one, and the task complete.
pub unsafe fn request_of<'a>(event: &'a Event<'_>) -> Request<'a> {
    // SAFETY: the event's data is the request, which is kept until then by `r->main->blocked`.
    unsafe { Request::new(get!(event.live(), data).cast::<ngx_http_request_t>()) }
}
