//! Runs `cpu-report` in a folder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

pub struct Folder {
    place: TempDir,
    /// stands before all arguments
    first: &'static [&'static str],
}

impl Folder {
    /// For commands that begin with these arguments.
    pub fn of(first: &'static [&'static str]) -> Self {
        Self { place: TempDir::new().unwrap(), first }
    }

    pub fn path(&self) -> &Path {
        self.place.path()
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cpu-report"));
        command.args(self.first).args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::new(self.command(arguments).output().unwrap())
    }

    /// With this as standard input.
    #[allow(dead_code, reason = "not all files of tests need it")]
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // a command that has failed reads nothing
        let _ = child.stdin.take().unwrap().write_all(input);
        Ran::new(child.wait_with_output().unwrap())
    }
}

#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub out: String,
    /// without the hint that there are times without lines, of which the logs of tests are full
    pub err: String,
}

impl Ran {
    pub fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let is_gap = |line: &&str| line.contains("a server without requests writes no lines");
        let err = text(output.stderr).split_inclusive('\n').filter(|line| !is_gap(line)).collect();
        Self { status: output.status.code(), out: text(output.stdout), err }
    }

    #[track_caller]
    pub fn fine(self) -> String {
        assert_eq!((self.status, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    #[allow(dead_code, reason = "as above")]
    #[track_caller]
    pub fn fails(self, with: &str) {
        assert_eq!((self.status, self.out.as_str()), (Some(1), ""), "{}", self.err);
        assert!(self.err.contains(with), "{}", self.err);
    }
}
