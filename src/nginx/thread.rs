//! Threads for work that may have to wait for a disk. The event loop and the master must not wait for a disk.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time that a process that ends waits for work that makes no progress.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The message about a disk on which the process no longer waits.
pub const NO_ANSWER: &str = "its disk does not answer";

/// The time of the last progress of some work. The thread that does the work shares it with the thread that waits for
/// the work.
#[derive(Debug, Clone)]
pub struct Progress {
    since: Instant,
    /// milliseconds from `since` to the last progress
    last_ms: Arc<AtomicU64>,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { since: Instant::now(), last_ms: Arc::default() }
    }

    /// Records progress.
    pub fn note(&self) {
        self.last_ms.store(self.since.elapsed().as_millis() as u64, Relaxed);
    }

    /// The time since the last progress.
    fn silent(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Relaxed)))
    }
}

/// Work in a thread of its own.
///
/// This is not a thread of the standard library. That library registers destructors of thread-local values in the
/// thread that starts another one. The destructors would keep this module in memory after NGINX has unloaded it. When
/// NGINX loads the module again, it would get the old code.
pub struct Work<T> {
    /// none if the work was done without a thread
    thread: Option<libc::pthread_t>,
    shared: Arc<Shared<T>>,
    progress: Progress,
}

struct Shared<T> {
    is_finished: AtomicBool,
    result: Mutex<Option<T>>,
}

/// The task of a new thread.
type Task = Box<dyn FnOnce() + Send>;

/// The size of a thread's stack, in bytes.
const STACK_BYTES: usize = 256 * 1024;

impl<T: Send + 'static> Work<T> {
    /// Starts the work in a thread that gets no signals, as `ngx_thread_pool_cycle` does. NGINX's signal handlers must
    /// interrupt the event loop, and `SIGXFSZ` must become an error of `write`.
    ///
    /// # Errors
    /// The system cannot start another thread.
    pub fn start(progress: &Progress, f: impl FnOnce() -> T + Send + 'static) -> io::Result<Work<T>> {
        let (mut work, task) = Work::prepare(progress, f);
        work.thread = Some(start(task).map_err(|(error, _)| error)?);
        Ok(work)
    }

    /// As [`Work::start`]. If the system cannot start another thread, the work is done at once, in the calling thread.
    /// This is for work that must be done, in a process that may wait.
    pub fn start_or_run(progress: &Progress, f: impl FnOnce() -> T + Send + 'static) -> Work<T> {
        let (mut work, task) = Work::prepare(progress, f);
        match start(task) {
            Ok(thread) => work.thread = Some(thread),
            // SAFETY: This only sets the action of the signal for the time of the task, so that it becomes an error of
            // `write`.
            Err((_, task)) => unsafe {
                let before = libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                task();
                libc::signal(libc::SIGXFSZ, before);
            },
        }
        work
    }

    fn prepare(progress: &Progress, f: impl FnOnce() -> T + Send + 'static) -> (Work<T>, Box<Task>) {
        let shared = Arc::new(Shared { is_finished: AtomicBool::new(false), result: Mutex::new(None) });
        let its = shared.clone();
        let task: Task = Box::new(move || {
            let result = f();
            *its.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            its.is_finished.store(true, Release);
        });
        progress.note();
        (Work { thread: None, shared, progress: progress.clone() }, Box::new(task))
    }

    /// As [`Work::start`], with a low priority, since the event loop may need the same processor. It is not the lowest
    /// one: a thread that holds a lock must get on, even if all processors are busy.
    ///
    /// # Errors
    /// The system cannot start another thread.
    pub fn start_nice(progress: &Progress, f: impl FnOnce() -> T + Send + 'static) -> io::Result<Work<T>> {
        Work::start(progress, move || {
            // This sets the priority of the new thread only. If that fails, the work is done all the same.
            let _ = rustix::process::setpriority_process(None, 10);
            f()
        })
    }

    pub fn is_finished(&self) -> bool {
        self.shared.is_finished.load(Acquire)
    }

    /// Waits for the result. Returns `None` if the work makes no progress for `patience`: it may be waiting for a disk,
    /// and may go on at any time. Then the thread is left alone. This library stays in memory until the process ends,
    /// since the thread runs in it.
    pub fn wait(self, patience: Duration) -> Option<T> {
        while !self.is_finished() {
            if self.progress.silent() > patience {
                keep_library();
                if let Some(thread) = self.thread {
                    // SAFETY: The thread was not joined, and is not joined later.
                    unsafe { libc::pthread_detach(thread) };
                }
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(thread) = self.thread {
            // SAFETY: The thread was not joined or detached, because `self` is consumed.
            unsafe { libc::pthread_join(thread, null_mut()) };
        }
        self.shared.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The result of `f`, which may have to wait for a disk. Returns `None` if that takes longer than `patience`. Then `f`
/// goes on by itself, and its result is dropped. So `f` must not use data that belongs to the caller's thread. If the
/// system cannot start another thread, `f` is called in this one.
pub fn within<T: Send + 'static>(patience: Duration, f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    Work::start_or_run(&Progress::new(), f).wait(patience)
}

/// Starts a thread that runs a task. If there is no thread, returns the task to the caller.
fn start(task: Box<Task>) -> Result<libc::pthread_t, (io::Error, Box<Task>)> {
    // The function is not `unsafe`, as libc declares it for `pthread_create`. Only the new thread calls it.
    extern "C" fn run(task: *mut c_void) -> *mut c_void {
        // SAFETY: `start` has handed over this pointer, once.
        let task = unsafe { Box::from_raw(task.cast::<Task>()) };
        task();
        null_mut()
    }
    let (mut blocked, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let (mut attributes, mut thread) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let task = Box::into_raw(task);
    // SAFETY: Each value is initialised before it is used. A thread starts with the signal mask of its creator, which
    // gets its own mask back. If there is a new thread, it owns the task.
    unsafe {
        libc::sigfillset(blocked.as_mut_ptr());
        for signal in [libc::SIGILL, libc::SIGFPE, libc::SIGSEGV, libc::SIGBUS] {
            libc::sigdelset(blocked.as_mut_ptr(), signal);
        }
        libc::pthread_attr_init(attributes.as_mut_ptr());
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK_BYTES);
        libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), before.as_mut_ptr());
        let error = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), run, task.cast());
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), null_mut());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        if error != 0 {
            return Err((io::Error::from_raw_os_error(error), Box::from_raw(task)));
        }
        let thread = thread.assume_init();
        libc::pthread_setname_np(thread, c"request_cpu".as_ptr());
        Ok(thread)
    }
}

/// Keeps this library in memory even if NGINX closes it. `ngx_unload_module` would remove code that is still called.
/// A static module is a part of the binary, which is never closed.
pub fn keep_library() {
    if cfg!(feature = "static") {
        return;
    }
    let mut found = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: `dladdr` fills `found` if it does not return 0. The address is in this library, so the name is that of
    // this library. The library is loaded, so `dlopen` only changes its flags.
    unsafe {
        let address = keep_library as fn() as *const c_void;
        if libc::dladdr(address, found.as_mut_ptr()) != 0 {
            let name = (*found.as_ptr()).dli_fname;
            libc::dlopen(name, libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
}
