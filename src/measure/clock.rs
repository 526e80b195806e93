//! The clocks of a worker's thread: CPU time and elapsed time. The module also detects whether the thread was switched
//! out.

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, compiler_fence};

use accounting::meter::Clocks;
use rustix::io::Errno;
use rustix::time::{ClockId, DynamicClockId, clock_gettime_dynamic};

/// Reads a clock of the kernel, in nanoseconds.
///
/// # Errors
/// The errors of clock_gettime(2). A sandbox may forbid a clock, and an emulation may lack it.
#[inline]
fn try_read(clock: ClockId) -> Result<u64, Errno> {
    // rustix's `clock_gettime` would end the process at an error.
    let time = clock_gettime_dynamic(DynamicClockId::Known(clock))?;
    Ok(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// Elapsed time that is not slewed, in nanoseconds. All processes share this clock.
#[inline]
fn raw_ns() -> u64 {
    // `CLOCK_MONOTONIC` always exists: NGINX reads it too (`ngx_monotonic_time`).
    try_read(ClockId::MonotonicRaw).or_else(|_| try_read(ClockId::Monotonic)).unwrap_or(0)
}

/// CPU time by `getrusage`, in nanoseconds. It replaces a CPU clock that cannot be read. The clock is more exact.
#[cold]
#[inline(never)]
fn usage_ns(who: libc::c_int) -> u64 {
    // SAFETY: All zero is a valid `rusage`. `getrusage` writes one `rusage`.
    let usage = unsafe {
        let mut usage: libc::rusage = core::mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    let ns = |time: libc::timeval| time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs();
    (ns(usage.ru_utime) + ns(usage.ru_stime)) * 1000
}

/// CPU time of the calling thread, in nanoseconds.
#[inline]
pub fn thread_cpu_ns() -> u64 {
    try_read(ClockId::ThreadCPUTime).unwrap_or_else(|_| usage_ns(libc::RUSAGE_THREAD))
}

/// CPU time of all threads of the process, in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    try_read(ClockId::ProcessCPUTime).unwrap_or_else(|_| usage_ns(libc::RUSAGE_SELF))
}

/// A fault of the clock of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The clock cannot be read. The value is `errno`.
    Fails(i32),
    /// The clock advances in steps of this many nanoseconds.
    Coarse(u64),
    /// The clock does not advance.
    Stands,
}

/// The largest step of a clock that is good enough, in nanoseconds. A lap is some microseconds long.
const FINE_NS: u64 = 50_000;
/// If the clock does not advance while the thread uses this much CPU, in nanoseconds, the search for a step ends.
/// Kernels count CPU every 10 ms or more often.
const WAIT_NS: u64 = 50_000_000;

/// The code reads a clock at most this often while it waits for the clock to advance. If the thread gets no processor,
/// these readings take some seconds.
const MOST_READINGS: u32 = 2_000_000;

/// Checks the clock of CPU time: the resolution that the clock reports, and the steps by which it advances while the
/// thread runs.
pub fn fault_of_thread_clock() -> Option<Fault> {
    let mut last_ns = match try_read(ClockId::ThreadCPUTime) {
        Ok(ns) => ns,
        Err(error) => return Some(Fault::Fails(error.raw_os_error())),
    };
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `clock_getres` writes one `timespec`.
    let is_known = unsafe { libc::clock_getres(libc::CLOCK_THREAD_CPUTIME_ID, &mut resolution) } == 0;
    let said_ns = resolution.tv_sec.unsigned_abs() * 1_000_000_000 + resolution.tv_nsec.unsigned_abs();
    if is_known && said_ns > FINE_NS {
        return Some(Fault::Coarse(said_ns));
    }
    // A reading takes less than a microsecond, so a small step is seen at once. One large step proves nothing: the step
    // may have begun before the first reading, and the thread may have been switched out. So the smallest of a few
    // steps counts. The search is limited by the CPU time of `getrusage`, because the thread may wait long for a
    // processor on a busy machine.
    let used = || usage_ns(libc::RUSAGE_THREAD);
    let (start_ns, mut used_ns, mut steps, mut step_ns) = (used(), 0, 0, u64::MAX);
    for _ in 0..MOST_READINGS {
        let now_ns = try_read(ClockId::ThreadCPUTime).unwrap_or(last_ns);
        if now_ns > last_ns {
            steps += 1;
            step_ns = step_ns.min(now_ns - last_ns);
            last_ns = now_ns;
        }
        match steps {
            1.. if step_ns <= FINE_NS => return None,
            2.. => return Some(Fault::Coarse(step_ns)),
            _ => used_ns = used().saturating_sub(start_ns),
        }
        if used_ns > WAIT_NS {
            break;
        }
    }
    match (steps, used_ns > WAIT_NS) {
        (1.., _) => Some(Fault::Coarse(step_ns)),
        (0, true) => Some(Fault::Stands),
        // Neither clock has advanced, so nothing is known.
        _ => None,
    }
}

/// The time of `CLOCK_MONOTONIC_RAW` in milliseconds. All times in accounts are of this clock. It is the same in all
/// processes.
pub fn shared_ms() -> u64 {
    raw_ns() / 1_000_000
}

/// The clocks of the thread that runs the event loop.
#[derive(Debug)]
pub struct ThreadClocks {
    tsc: Option<Tsc>,
    switches: Option<Switches>,
}

impl ThreadClocks {
    /// The clocks that this machine has, for the calling thread. With `cpu_only`, no clock but that of CPU time is
    /// read.
    pub fn of_this_thread(cpu_only: bool) -> Self {
        if cpu_only {
            return Self { tsc: None, switches: None };
        }
        Self { tsc: Tsc::calibrate(), switches: Switches::of_this_thread() }
    }

    /// Compares the time stamp counter with the kernel's clock, about once a second. Returns by how much `time_ns` is
    /// behind the clock of [`shared_ms`], as a wrapping difference.
    pub fn calibrate(&mut self) -> u64 {
        self.tsc = self.tsc.take().and_then(Tsc::recalibrate);
        self.tsc.as_ref().map_or(0, |tsc| tsc.behind_ns)
    }
}

impl Clocks for ThreadClocks {
    #[inline]
    fn cpu_ns(&mut self) -> u64 {
        thread_cpu_ns()
    }

    #[inline]
    fn time_ns(&mut self) -> u64 {
        match &self.tsc {
            Some(tsc) => tsc.now_ns(),
            None => raw_ns(),
        }
    }

    #[inline]
    fn switched(&mut self) -> bool {
        self.switches.as_ref().is_some_and(Switches::since_last_call)
    }

    fn sees_switches(&self) -> bool {
        self.switches.is_some()
    }
}

/// The processor's time stamp counter as a clock of nanoseconds, at the rate of `CLOCK_MONOTONIC_RAW`. That clock is
/// not slewed, unlike `CLOCK_MONOTONIC`, so it keeps pace with the scheduler's clock.
#[derive(Debug)]
struct Tsc {
    /// `ticks` and `ns` are the same instant by both clocks
    ticks: u64,
    ns: u64,
    /// nanoseconds per tick, times 2^32
    rate: u64,
    /// by how much the kernel's clock was ahead at that instant, as a wrapping difference
    behind_ns: u64,
}

/// Duration of the first calibration. One reading is off by about 20 ns, so the rate is off by about 20 ppm during the
/// first second.
const CALIBRATION_NS: u64 = 1_000_000;

impl Tsc {
    /// If the kernel itself keeps time by the counter, it has found that the counter ticks steadily, and at the same
    /// rate on all processors.
    fn calibrate() -> Option<Tsc> {
        let source =
            std::fs::read("/sys/devices/system/clocksource/clocksource0/current_clocksource").ok()?;
        if !cfg!(target_arch = "x86_64") || source.trim_ascii() != b"tsc" {
            return None;
        }
        let (ticks, ns) = instant();
        let start = Tsc { ticks, ns, rate: 0, behind_ns: 0 };
        // The number of readings is limited in case the clock does not advance.
        (0..MOST_READINGS).any(|_| raw_ns() >= ns + CALIBRATION_NS).then(|| start.recalibrate())?
    }

    /// Computes the rate since the last known instant. Returns `None` if the counter was not usable meanwhile, or is no
    /// longer usable.
    fn recalibrate(self) -> Option<Tsc> {
        let (ticks, ns) = instant();
        let passed_ns = u128::from(ns.checked_sub(self.ns)?);
        let passed_ticks = u128::from(ticks.checked_sub(self.ticks)?);
        let rate = u64::try_from((passed_ns << 32).checked_div(passed_ticks)?).ok()?;
        // The rate is a constant of the processor. If it seems to change, something is wrong.
        let steady = self.rate == 0 || rate.abs_diff(self.rate) < self.rate / 1000;
        // The clock continues from the time that the old rate gives, because a lap is running.
        let before_ns = if self.rate == 0 { ns } else { self.at(ticks) };
        let behind_ns = ns.wrapping_sub(before_ns);
        (rate != 0 && steady).then_some(Tsc { ticks, ns: before_ns, rate, behind_ns })
    }

    /// The time at a value of the counter. The counter of another processor may be a little behind. For a value before
    /// the last known instant, this function returns that instant.
    #[inline]
    fn at(&self, ticks: u64) -> u64 {
        self.ns + ((u128::from(ticks.saturating_sub(self.ticks)) * u128::from(self.rate)) >> 32) as u64
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        self.at(ticks())
    }
}

#[inline]
#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: Every processor of this architecture has the instruction. Linux allows it, except under `PR_SET_TSC`.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    0
}

/// The counter and the kernel's clock at the same instant. The thread may be switched out between the two readings, so
/// the closest of several pairs is used.
fn instant() -> (u64, u64) {
    let pair = || {
        let before = ticks();
        let ns = raw_ns();
        let took = ticks().saturating_sub(before);
        (took, before + took / 2, ns)
    };
    let (_, ticks, ns) = [(); 8].map(|()| pair()).into_iter().min().unwrap_or_default();
    (ticks, ns)
}

/// Detects whether the thread was switched out, without a call of the kernel.
///
/// A thread that has registered a `struct rseq` (glibc does this since 2.35) can name a critical section in it. If the
/// thread is outside of that section when the kernel switches it out or sends it a signal, the kernel removes the name
/// (linux/rseq.h). So this type names an empty section, in which the thread never is. The name is a mark that is gone
/// after a switch.
#[derive(Debug)]
struct Switches {
    /// registration of the thread that made this value
    registration: Registration,
    section: u64,
}

/// `struct rseq_cs` of linux/rseq.h, and the code that it points to.
#[repr(C, align(32))]
struct Section {
    version: u32,
    flags: u32,
    start_ip: u64,
    post_commit_offset: u64,
    abort_ip: u64,
    /// the kernel looks for the signature in front of `abort_ip`
    signature: u32,
    abort: u32,
}

/// `RSEQ_SIG` of glibc's bits/rseq.h for x86
const SIGNATURE: u32 = 0x5305_3053;
/// The beginning of `struct rseq` of linux/rseq.h.
#[repr(C)]
struct Rseq {
    cpu_id_start: AtomicU32,
    cpu_id: AtomicU32,
    rseq_cs: AtomicU64,
}

/// The largest valid number of a processor. `RSEQ_CPU_ID_UNINITIALIZED` and `RSEQ_CPU_ID_REGISTRATION_FAILED` of
/// linux/rseq.h are larger.
const LAST_CPU_ID: u32 = i32::MAX as u32;

impl Switches {
    /// Returns `None` if there is no registration, or if the kernel does not remove the mark. Some kernels do not
    /// remove it when the thread was switched out in a system call, since a critical section cannot contain a system
    /// call.
    fn of_this_thread() -> Option<Switches> {
        let registration = Registration::of_this_thread()?;
        // The section is leaked: the kernel reads it until the thread ends. By then the module may no longer be mapped
        // (`ngx_unload_module`).
        let section = Box::leak(Box::new(Section {
            version: 0,
            flags: 0,
            start_ip: 0,
            post_commit_offset: 0,
            abort_ip: 0,
            signature: SIGNATURE,
            abort: 0,
        }));
        section.abort_ip = (&raw const section.abort).addr() as u64;
        section.start_ip = section.abort_ip;
        let switches = Switches { registration, section: (&raw const *section).addr() as u64 };
        let works = switches.registration.get().cpu_id.load(Relaxed) <= LAST_CPU_ID && {
            switches.since_last_call();
            std::thread::sleep(core::time::Duration::from_micros(50));
            switches.since_last_call()
        };
        if !works {
            switches.unmark();
        }
        works.then_some(switches)
    }

    #[inline]
    fn mark(&self) -> &AtomicU64 {
        &self.registration.get().rseq_cs
    }

    /// Whether the thread was switched out since the last call: the mark is gone. Sets the mark again.
    #[inline]
    fn since_last_call(&self) -> bool {
        // The kernel's writes act like those of a signal handler in this thread.
        compiler_fence(SeqCst);
        let gone = self.mark().load(Relaxed) != self.section;
        if gone {
            self.mark().store(self.section, Relaxed);
            compiler_fence(SeqCst);
        }
        gone
    }

    fn unmark(&self) {
        self.mark().store(0, Relaxed);
    }
}

/// The `struct rseq` that glibc has registered for a thread. Only that thread holds this value.
#[derive(Debug)]
struct Registration(NonNull<Rseq>);

impl Registration {
    /// The registration of the calling thread, if there is one.
    fn of_this_thread() -> Option<Registration> {
        registration().map(Registration)
    }

    #[inline]
    fn get(&self) -> &Rseq {
        // SAFETY: The registration lives as long as the thread, is aligned for this type, and is only used by the
        // thread itself and by the kernel on its behalf. This value is not sent to another thread: a pointer is not
        // `Send`.
        unsafe { self.0.as_ref() }
    }
}

/// The address of the calling thread's `struct rseq`, if glibc has registered one that contains all of [`Rseq`].
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn registration() -> Option<NonNull<Rseq>> {
    // SAFETY: These are symbols of glibc (sys/rseq.h): constants of type `unsigned int` and `ptrdiff_t`. In a glibc
    // without them, the address is null.
    let (size, offset) = unsafe {
        let find = |name: &core::ffi::CStr| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        let size = find(c"__rseq_size").cast::<u32>().as_ref().copied()?;
        (size, find(c"__rseq_offset").cast::<isize>().as_ref().copied()?)
    };
    let thread: usize;
    // SAFETY: By the ABI, the thread pointer is stored at the start of the segment that it points to. Nothing else is
    // accessed.
    unsafe { asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly)) };
    let rseq = core::ptr::with_exposed_provenance_mut::<Rseq>(thread.checked_add_signed(offset)?);
    NonNull::new(rseq).filter(|_| size as usize >= size_of::<Rseq>())
}

#[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
fn registration() -> Option<NonNull<Rseq>> {
    None
}
