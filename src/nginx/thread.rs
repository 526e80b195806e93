//! Threads for work that may have to wait for a disk, which the event loop and the master may not.

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

/// For so long a process that ends waits for work that does not get on.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// What is said of a disk that is not waited for.
pub const NO_ANSWER: &str = "its disk does not answer";

/// When some work got on last; shared by the thread that does it and by who waits for it.
#[derive(Debug, Clone)]
pub struct Progress {
    since: Instant,
    /// milliseconds after that
    last_ms: Arc<AtomicU64>,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { since: Instant::now(), last_ms: Arc::default() }
    }

    /// The work gets on.
    pub fn note(&self) {
        self.last_ms.store(self.since.elapsed().as_millis() as u64, Relaxed);
    }

    /// For how long it has not got on.
    fn silent(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Relaxed)))
    }
}

/// Work in a thread of its own.
///
/// Not one of the standard library's: its destructors of thread-local values, once registered by the thread
/// that starts another one, keep this library in memory after NGINX has unloaded it, and NGINX would get the
/// old code when it loads it again.
pub struct Work<T> {
    /// none if it was done without one
    thread: Option<libc::pthread_t>,
    shared: Arc<Shared<T>>,
    progress: Progress,
}

struct Shared<T> {
    is_finished: AtomicBool,
    result: Mutex<Option<T>>,
}

/// What a new thread is to do.
type Task = Box<dyn FnOnce() + Send>;

/// Bytes of stack for a thread.
const STACK_BYTES: usize = 256 * 1024;

impl<T: Send + 'static> Work<T> {
    /// Starts it, in a thread that gets no signals, as `ngx_thread_pool_cycle` does: NGINX's handlers must
    /// interrupt the event loop, and `SIGXFSZ` becomes an error of `write`.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(progress: &Progress, f: impl FnOnce() -> T + Send + 'static) -> io::Result<Work<T>> {
        let (mut work, task) = Work::prepare(progress, f);
        work.thread = Some(start(task).map_err(|(error, _)| error)?);
        Ok(work)
    }

    /// As [`Work::start`]. Where there can be no more threads, the work is done at once, in this one: for what
    /// must not be left undone, in a process that may wait.
    pub fn start_or_run(progress: &Progress, f: impl FnOnce() -> T + Send + 'static) -> Work<T> {
        let (mut work, task) = Work::prepare(progress, f);
        match start(task) {
            Ok(thread) => work.thread = Some(thread),
            // SAFETY: only sets what the signal does meanwhile: it is to be an error of `write`.
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

    /// As [`Work::start`], with the least share of the processor: the event loop may want the same one.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start_nice(progress: &Progress, f: impl FnOnce() -> T + Send + 'static) -> io::Result<Work<T>> {
        Work::start(progress, move || {
            // of this thread; without it the work is done all the same
            let _ = rustix::process::setpriority_process(None, 19);
            f()
        })
    }

    pub fn is_finished(&self) -> bool {
        self.shared.is_finished.load(Acquire)
    }

    /// Its result. `None` if it does not get on for so long: it may be waiting for a disk, and go on at any
    /// time. Then it is left alone, and this library stays in memory as long as the process, since the thread
    /// runs in it.
    pub fn wait(self, patience: Duration) -> Option<T> {
        while !self.is_finished() {
            if self.progress.silent() > patience {
                keep_library();
                if let Some(thread) = self.thread {
                    // SAFETY: a thread that was not joined, and is not from here on.
                    unsafe { libc::pthread_detach(thread) };
                }
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(thread) = self.thread {
            // SAFETY: a thread that was not joined or detached: `self` is used up.
            unsafe { libc::pthread_join(thread, null_mut()) };
        }
        self.shared.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The result of `f`, which may have to wait for a disk. `None` if that takes longer: then it goes on by
/// itself, and what it returns is dropped. So `f` must not use what only the caller's thread may. Where there
/// can be no more threads, `f` is called in this one.
pub fn within<T: Send + 'static>(patience: Duration, f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    Work::start_or_run(&Progress::new(), f).wait(patience)
}

/// Starts a thread that does a task. Without one, the task is given back.
fn start(task: Box<Task>) -> Result<libc::pthread_t, (io::Error, Box<Task>)> {
    // not `unsafe`, as libc declares `pthread_create`; only the new thread calls it
    extern "C" fn run(task: *mut c_void) -> *mut c_void {
        // SAFETY: what `start` has handed over, once.
        let task = unsafe { Box::from_raw(task.cast::<Task>()) };
        task();
        null_mut()
    }
    let (mut blocked, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let (mut attributes, mut thread) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let task = Box::into_raw(task);
    // SAFETY: each value is initialised before it is used. A thread starts with the mask of the one that makes
    // it, which gets its own back. The task belongs to the new thread if there is one.
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

/// Keeps this library in memory, whatever NGINX closes: `ngx_unload_module` would take away code that is still
/// called.
pub fn keep_library() {
    let mut found = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: `dladdr` fills `found` if it returns other than 0; the address is one of this library, whose name
    // it then has. The library is loaded, so that `dlopen` only changes how it is treated.
    unsafe {
        let address = keep_library as fn() as *const c_void;
        if libc::dladdr(address, found.as_mut_ptr()) != 0 {
            let name = (*found.as_ptr()).dli_fname;
            libc::dlopen(name, libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
}
