//! The role of this process, and whether another process is still alive.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

use accounting::process::ProcessId;
use nginx_sys::{NGX_PROCESS_MASTER, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER};
use rustix::process::{Pid, test_kill_process};

/// The role of this process in NGINX. Cache manager and cache loader are `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Master,
    Worker,
    /// master and worker in one, with `master_process off`
    Single,
    Other,
}

/// The role of this process in NGINX.
pub fn role() -> Role {
    match global!(ngx_process) as u32 {
        NGX_PROCESS_MASTER => Role::Master,
        NGX_PROCESS_WORKER => Role::Worker,
        NGX_PROCESS_SINGLE => Role::Single,
        _ => Role::Other,
    }
}

/// Whether this is `nginx -t`, which must change nothing.
pub fn is_test() -> bool {
    global!(ngx_test_config) != 0
}

/// Whether this worker was told to finish.
pub fn is_finishing() -> bool {
    // `ngx_worker_process_cycle` sets it.
    global!(ngx_exiting) != 0
}

/// Whether this process has inherited sockets, from the NGINX that executed it or from a supervisor.
pub fn has_inherited() -> bool {
    // `ngx_add_inherited_sockets` sets it before the configuration is read.
    global!(ngx_inherited) != 0
}

/// The parent's process ID; 0 if there is no parent.
pub fn parent() -> i32 {
    rustix::process::getppid().map_or(0, Pid::as_raw_pid)
}

/// Whether the parent is still the one that this process had when NGINX started.
pub fn has_first_parent() -> bool {
    // `main` sets it when NGINX starts.
    global!(ngx_parent) == parent()
}

/// Whether this master has executed a new binary, and that process still runs.
pub fn has_new_binary() -> bool {
    // The master's signal handler sets it, in this process.
    global!(ngx_new_binary) > 0
}

/// The identity of the calling process in shared memory.
pub fn own() -> Option<ProcessId> {
    let pid = std::process::id();
    // In a `/proc` of another PID namespace, the numbers differ. Then start times are not known.
    let started = Stat::of(None).filter(|stat| stat.pid == pid).map_or(0, |stat| stat.started);
    ProcessId::new(pid, started)
}

/// Whether a process with this number exists.
pub fn is_used(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    // 0 would mean this process's group.
    let Some(pid) = Pid::from_raw(pid) else { return true };
    // Signal 0 is not sent. EPERM means that the process is alive and belongs to another user.
    test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

/// Whether `process` is alive: a process with this number exists, was started at the same time, and has not ended.
/// `own` is the calling process.
pub fn is_alive(process: ProcessId, own: Option<ProcessId>) -> bool {
    if !is_used(process.pid()) {
        return false;
    }
    // If the own start time is not known, or `/proc` may not be read, only the number is compared.
    let stat = own.filter(|own| own.started() != 0).and_then(|_| Stat::of(Some(process.pid())));
    stat.is_none_or(|stat| stat.pid != process.pid() || !stat.is_over && process.is_same_start(stat.started))
}

/// The contents of `/proc/PID/stat` (proc_pid_stat(5)).
struct Stat {
    pid: u32,
    /// the process has ended, and its parent has not collected its status yet
    is_over: bool,
    /// start time in clock ticks since the system was booted
    started: u64,
}

impl Stat {
    /// The contents for a process; `None` means the calling process. This does not allocate memory, because it is
    /// called again and again while requests are served.
    fn of(process: Option<u32>) -> Option<Stat> {
        let (mut path, mut text) = ([0; 32], [0; 1024]);
        let mut rest = &mut path[..];
        match process {
            Some(pid) => write!(rest, "/proc/{pid}/stat"),
            None => write!(rest, "/proc/self/stat"),
        }
        .ok()?;
        let length = 32 - rest.len();
        let path = std::path::Path::new(OsStr::from_bytes(path.get(..length)?));
        let length = File::open(path).ok()?.read(&mut text).ok()?;
        Stat::parse(text.get(..length)?)
    }

    /// Parses `PID (NAME) STATE …`. The name may contain any bytes. The start time is the 22nd field.
    fn parse(text: &[u8]) -> Option<Stat> {
        let name_begins = text.iter().position(|&byte| byte == b'(')?;
        let name_ends = text.iter().rposition(|&byte| byte == b')')?;
        let pid = str::from_utf8(text.get(..name_begins)?).ok()?.trim().parse().ok()?;
        let mut fields = str::from_utf8(text.get(name_ends + 1..)?).ok()?.split_ascii_whitespace();
        let is_over = matches!(fields.next()?, "Z" | "X" | "x");
        let started = fields.nth(18)?.parse().ok()?;
        Some(Stat { pid, is_over, started })
    }
}

/// The number of processes that are checked closely each second. That takes about 20 µs for each of them.
const CLOSELY: u32 = 4;

/// Looks for processes that were killed, each second. A process whose number no longer exists is found at once. A
/// process whose number was given to another process is found by a close check; processes are checked closely by turns.
pub struct Watch {
    own: Option<ProcessId>,
    /// the number of processes in the previous second
    before: u32,
    seen: u32,
}

impl Watch {
    pub fn new(own: Option<ProcessId>) -> Watch {
        Watch { own, before: 0, seen: 0 }
    }

    /// Begins the checks of a second.
    pub fn begin(&mut self) {
        self.before = core::mem::take(&mut self.seen);
    }

    /// Whether `process` is alive, as far as this is checked in this second of the shared clock.
    pub fn is_alive(&mut self, process: ProcessId, second: u64) -> bool {
        self.seen = self.seen.wrapping_add(1);
        if Some(process) == self.own {
            return true;
        }
        let turns = u64::from(self.before.div_ceil(CLOSELY).max(1));
        if u64::from(self.seen) % turns == second % turns {
            is_alive(process, self.own)
        } else {
            is_used(process.pid())
        }
    }
}
