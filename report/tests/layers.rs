//! The folders of the program stand in layers, and none imports a folder of its own layer or of a higher one.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The table in `src/main.rs`, from the lowest layer to the highest.
const LAYERS: [&[&str]; 6] = [
    &["output"],
    &["input", "select", "time", "help", "nginx_conf"],
    &["traffic"],
    &["prometheus"],
    &["billing"],
    &["domains", "bill", "compare", "factors", "check", "completions", "man"],
];

/// These import nothing of the program but each other.
const ALONE: [&str; 2] = ["traffic/line.rs", "traffic/line/fault.rs"];

fn layer(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|folders| folders.contains(&folder))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The folders that a file's code imports by `crate::`; of `crate::{a, b}` there is none in this program.
fn imported(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1)).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn no_folder_imports_its_own_layer_or_a_higher_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for file in files(&root) {
        let relative = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let folder = relative.split(['/', '.']).next().unwrap();
        if folder == "main" {
            continue;
        }
        let Some(own) = layer(folder) else {
            faults.push(format!("{relative}: the folder {folder} is in no layer"));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for other in imported(&text).filter(|other| *other != folder) {
            if layer(other).is_none_or(|layer| layer >= own) {
                faults.push(format!("{relative} imports {other}"));
            }
        }
        if ALONE.contains(&relative) && (text.contains("crate::") || text.contains("super::super")) {
            faults.push(format!("{relative} must import nothing of this program"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
