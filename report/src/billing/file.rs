//! Files of price plans.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, bail};

use super::plan::Plan;
use super::reader::parse;

const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a plan's file.
pub fn read(path: &Path) -> anyhow::Result<Plan> {
    let name = || path.display().to_string();
    if path.is_dir() {
        bail!("{}: it is a directory; a plan is a TOML file", name());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(name)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).with_context(name)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("{}: it is longer than 1 MiB; a plan is a small TOML file", name());
    }
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("{}: it is not UTF-8 text; a plan is a TOML file", name());
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    parse(&text, &stem).map_err(|message| anyhow!("{}:{message}", path.display()))
}
