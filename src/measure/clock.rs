//! The clocks of a worker's thread: its CPU time, time as such, and whether it was switched out.

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
/// Those of clock_gettime(2): a sandbox may forbid a clock, and an emulation may not have it.
#[inline]
fn try_read(clock: ClockId) -> Result<u64, Errno> {
    // not `clock_gettime`, which ends the process at an error
    let time = clock_gettime_dynamic(DynamicClockId::Known(clock))?;
    Ok(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// Time that is not slewed, of the clock that all processes share, in nanoseconds.
#[inline]
fn raw_ns() -> u64 {
    // the second one is always there: NGINX reads it too (`ngx_monotonic_time`)
    try_read(ClockId::MonotonicRaw).or_else(|_| try_read(ClockId::Monotonic)).unwrap_or(0)
}

/// What `getrusage` says, in nanoseconds: where it has to stand in for a clock, which is more exact.
#[cold]
#[inline(never)]
fn usage_ns(who: libc::c_int) -> u64 {
    // SAFETY: all zero is a valid `rusage`, of which one is written.
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

/// What is wrong with the clock of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be read, for this reason (`errno`).
    Fails(i32),
    /// It advances by so many nanoseconds at a time.
    Coarse(u64),
    /// It does not advance.
    Stands,
}

/// Laps are some microseconds long, so a clock is good enough that advances at least so often, in nanoseconds.
const FINE_NS: u64 = 50_000;
/// A clock that stands while the thread uses so much CPU is not waited for, in nanoseconds: kernels count CPU each 10
/// ms or more often.
const WAIT_NS: u64 = 50_000_000;

/// As often clocks are read at most until they advance: that takes some seconds where the thread gets no processor.
const MOST_READINGS: u32 = 2_000_000;

/// Looks at the clock of CPU time as it is: what it says about itself, and how it advances while the thread runs.
pub fn fault_of_thread_clock() -> Option<Fault> {
    let mut last_ns = match try_read(ClockId::ThreadCPUTime) {
        Ok(ns) => ns,
        Err(error) => return Some(Fault::Fails(error.raw_os_error())),
    };
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one `timespec`.
    let is_known = unsafe { libc::clock_getres(libc::CLOCK_THREAD_CPUTIME_ID, &mut resolution) } == 0;
    let said_ns = resolution.tv_sec.unsigned_abs() * 1_000_000_000 + resolution.tv_nsec.unsigned_abs();
    if is_known && said_ns > FINE_NS {
        return Some(Fault::Coarse(said_ns));
    }
    // A reading takes less than a microsecond, so a step that is small is seen at once. Where one is not, it is the
    // smallest of a few: the first one had begun before, and the thread may have been switched out. How long that may
    // take is told by the CPU that `getrusage` sees: on a busy machine, the thread may wait for a long time.
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
        // neither clock has told anything
        _ => None,
    }
}

/// The clock of all times in accounts, the same in all processes, in milliseconds: `CLOCK_MONOTONIC_RAW`.
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
    /// Those that this machine has, for the calling thread. `cpu_only`: no other clock than that of CPU
    /// time will be asked.
    pub fn of_this_thread(cpu_only: bool) -> Self {
        if cpu_only {
            return Self { tsc: None, switches: None };
        }
        Self { tsc: Tsc::calibrate(), switches: Switches::of_this_thread() }
    }

    /// Compares the time stamp counter with the kernel's clock, about once a second. Returns by how much `time_ns` is
    /// behind the clock of [`shared_ms`], wrapping.
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

/// The processor's time stamp counter as a clock of nanoseconds, at the rate of `CLOCK_MONOTONIC_RAW`: unlike
/// `CLOCK_MONOTONIC` that is not slewed, and so keeps pace with the scheduler's clock.
#[derive(Debug)]
struct Tsc {
    /// the same instant by both clocks
    ticks: u64,
    ns: u64,
    /// nanoseconds per tick, times 2^32
    rate: u64,
    /// what the kernel's clock was ahead at that instant, wrapping
    behind_ns: u64,
}

/// How long the first calibration takes: one reading is off by some 20 ns, so the rate by some 20 ppm, for the first
/// second.
const CALIBRATION_NS: u64 = 1_000_000;

impl Tsc {
    /// Where the kernel itself keeps time by the counter, it has found that it ticks steadily, and alike on all
    /// processors.
    fn calibrate() -> Option<Tsc> {
        let source =
            std::fs::read("/sys/devices/system/clocksource/clocksource0/current_clocksource").ok()?;
        if !cfg!(target_arch = "x86_64") || source.trim_ascii() != b"tsc" {
            return None;
        }
        let (ticks, ns) = instant();
        let start = Tsc { ticks, ns, rate: 0, behind_ns: 0 };
        // a limit, in case that the clock stands
        (0..MOST_READINGS).any(|_| raw_ns() >= ns + CALIBRATION_NS).then(|| start.recalibrate())?
    }

    /// The rate since the last instant that is known. None if the counter was of no use meanwhile, or is not any more.
    fn recalibrate(self) -> Option<Tsc> {
        let (ticks, ns) = instant();
        let passed_ns = u128::from(ns.checked_sub(self.ns)?);
        let passed_ticks = u128::from(ticks.checked_sub(self.ticks)?);
        let rate = u64::try_from((passed_ns << 32).checked_div(passed_ticks)?).ok()?;
        // it is a constant of the processor: if it seems to change, something is wrong
        let steady = self.rate == 0 || rate.abs_diff(self.rate) < self.rate / 1000;
        // time goes on where it was by the old rate: a lap is running
        let before_ns = if self.rate == 0 { ns } else { self.at(ticks) };
        let behind_ns = ns.wrapping_sub(before_ns);
        (rate != 0 && steady).then_some(Tsc { ticks, ns: before_ns, rate, behind_ns })
    }

    /// A counter that is a little behind, as another processor's may be, is at the last instant that is known.
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
    // SAFETY: every processor of this architecture has the instruction, and Linux allows it (`PR_SET_TSC` aside).
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    0
}

/// The counter and the kernel's clock at the same instant: the closest pair of a few, since the thread may be
/// switched out between the two readings.
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

/// Sees whether the thread was switched out, without asking the kernel.
///
/// A thread that has registered a `struct rseq` (glibc does so since 2.35) can name a critical section in it, and the
/// kernel takes the name away when it switches the thread out, or sends it a signal, outside of that section
/// (linux/rseq.h). So an empty section, in which the thread never is, serves as a mark that is gone after a switch.
#[derive(Debug)]
struct Switches {
    /// of the thread that made this
    registration: Registration,
    section: u64,
}

/// `struct rseq_cs` of linux/rseq.h, and what it points to.
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

/// `RSEQ_CPU_ID_UNINITIALIZED` and `RSEQ_CPU_ID_REGISTRATION_FAILED` of linux/rseq.h are above.
const LAST_CPU_ID: u32 = i32::MAX as u32;

impl Switches {
    /// None where there is no registration, or where the kernel leaves the mark alone: some may when the thread was
    /// switched out in a system call, since there can be no critical section around one.
    fn of_this_thread() -> Option<Switches> {
        let registration = Registration::of_this_thread()?;
        // Leaked: the kernel reads it until the thread ends, when the module may not be mapped any more
        // (ngx_unload_module).
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

    /// Whether the mark is gone; sets it again.
    #[inline]
    fn since_last_call(&self) -> bool {
        // the kernel's writes are those of a signal handler in this thread
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

/// The `struct rseq` that glibc has registered for a thread. Only that thread has this.
#[derive(Debug)]
struct Registration(NonNull<Rseq>);

impl Registration {
    /// That of the calling thread, if there is one.
    fn of_this_thread() -> Option<Registration> {
        registration().map(Registration)
    }

    #[inline]
    fn get(&self) -> &Rseq {
        // SAFETY: the registration lives as long as the thread, is aligned for this type, and is only used by the
        // thread itself and by the kernel on its behalf. This is not sent to another thread: a pointer is not `Send`.
        unsafe { self.0.as_ref() }
    }
}

/// Where the calling thread has its `struct rseq`, if glibc has registered one that has all of [`Rseq`].
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn registration() -> Option<NonNull<Rseq>> {
    // SAFETY: symbols of glibc (sys/rseq.h): constants of type `unsigned int` and `ptrdiff_t`; null in a glibc
    // without them.
    let (size, offset) = unsafe {
        let find = |name: &core::ffi::CStr| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        let size = find(c"__rseq_size").cast::<u32>().as_ref().copied()?;
        (size, find(c"__rseq_offset").cast::<isize>().as_ref().copied()?)
    };
    let thread: usize;
    // SAFETY: the ABI has the thread pointer at the start of the segment that it points to; nothing else is touched.
    unsafe { asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly)) };
    let rseq = core::ptr::with_exposed_provenance_mut::<Rseq>(thread.checked_add_signed(offset)?);
    NonNull::new(rseq).filter(|_| size as usize >= size_of::<Rseq>())
}

#[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
fn registration() -> Option<NonNull<Rseq>> {
    None
}
