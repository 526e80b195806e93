//! Which process this is, and whether another one still lives.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

use accounting::process::ProcessId;
use nginx_sys::{NGX_PROCESS_MASTER, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER};
use rustix::process::{Pid, test_kill_process};

/// What this process is to NGINX, but for cache manager and loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Master,
    Worker,
    /// both, with `master_process off`
    Single,
    Other,
}

/// What this process is to NGINX.
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
    // set by `ngx_worker_process_cycle`
    global!(ngx_exiting) != 0
}

/// Whether this process has inherited sockets: from the NGINX that has executed it, or from a supervisor.
pub fn has_inherited() -> bool {
    // `ngx_add_inherited_sockets` sets it before the configuration is read
    global!(ngx_inherited) != 0
}

/// The parent's process ID, 0 if there is none.
pub fn parent() -> i32 {
    rustix::process::getppid().map_or(0, Pid::as_raw_pid)
}

/// Whether the parent is the one that this process had when NGINX started.
pub fn has_first_parent() -> bool {
    // `main` sets it when NGINX starts
    global!(ngx_parent) == parent()
}

/// Whether this master has executed a new binary, which is there still.
pub fn has_new_binary() -> bool {
    // set by the master's signal handler, in this process
    global!(ngx_new_binary) > 0
}

/// The process that calls, as shared memory knows it.
pub fn own() -> Option<ProcessId> {
    let pid = std::process::id();
    // a `/proc` of another namespace of processes has other numbers: then starts are not known
    let started = Stat::of(None).filter(|stat| stat.pid == pid).map_or(0, |stat| stat.started);
    ProcessId::new(pid, started)
}

/// Whether there is a process of this number.
pub fn is_used(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    // 0 would be this process's group
    let Some(pid) = Pid::from_raw(pid) else { return true };
    // signal 0 is not sent; a process of another user is alive too (EPERM)
    test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

/// Whether it is this process, which was started when `process` says, and can still do something. `own` is the
/// one that calls.
pub fn is_alive(process: ProcessId, own: Option<ProcessId>) -> bool {
    if !is_used(process.pid()) {
        return false;
    }
    // where the own start is not known, or one may not look, the number has to do
    let stat = own.filter(|own| own.started() != 0).and_then(|_| Stat::of(Some(process.pid())));
    stat.is_none_or(|stat| stat.pid != process.pid() || !stat.is_over && process.is_same_start(stat.started))
}

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
struct Stat {
    pid: u32,
    /// it was killed, and its parent has not taken note yet
    is_over: bool,
    /// in clock ticks since the system was booted
    started: u64,
}

impl Stat {
    /// Of a process, or of the one that calls. Takes no memory: this is done again and again while requests are
    /// served.
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

    /// `PID (NAME) STATE …`, where the name may have any bytes, and the start is the 22nd field.
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

/// So many processes are looked at closely each second: that takes some 20 µs for each of them.
const CLOSELY: u32 = 4;

/// Looks for processes that were killed, each second: for those whose number is gone at once, and for those
/// whose number was given to another process by turns.
pub struct Watch {
    own: Option<ProcessId>,
    /// as many were looked at the last time
    before: u32,
    seen: u32,
}

impl Watch {
    pub fn new(own: Option<ProcessId>) -> Watch {
        Watch { own, before: 0, seen: 0 }
    }

    /// Begins to look.
    pub fn begin(&mut self) {
        self.before = core::mem::take(&mut self.seen);
    }

    /// Whether this process is alive, as far as that is looked at in this second of the shared clock.
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
