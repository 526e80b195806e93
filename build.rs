//! Turns what nginx-sys found out about the NGINX it was pointed at (`DEP_NGINX_*`) into `cfg`s, asks the C compiler how NGINX's
//! structures are laid out, and compresses the page for browsers.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::{env, fs};

use flate2::{Compression, Crc, GzBuilder};

#[path = "build/layout.rs"]
mod layout;

fn main() {
    if let Err(error) = nginx().and_then(|()| page()) {
        eprintln!("\nerror: {error}");
        std::process::exit(1);
    }
}

fn nginx() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=DEP_NGINX_FEATURES");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_FEATURES_CHECK");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_VERSION_NUMBER");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_VERSION");

    let known = env::var("DEP_NGINX_FEATURES_CHECK").unwrap_or_else(|_| "any()".into());
    println!("cargo::rustc-check-cfg=cfg(ngx_feature, values({known}))");
    let features = env::var("DEP_NGINX_FEATURES").unwrap_or_default();
    let features: Vec<&str> = features.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    for feature in &features {
        println!("cargo::rustc-cfg=ngx_feature=\"{feature}\"");
    }
    if !features.contains(&"http") {
        return Err("this NGINX was configured --without-http, and the module is one of HTTP".into());
    }
    layout::generate(&features)
}

/// What scripts/page has built, for src/status.rs: the page compressed, a tag that changes with it, and the policy that
/// allows its own script and style and nothing else.
fn page() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=page/dist");
    let page = fs::read("page/dist/page.html")?;
    let out = fs::File::create(Path::new(&env::var("OUT_DIR")?).join("page.html.gz"))?;
    // no time and no name of a file in it: the same page is the same file
    let mut gzip = GzBuilder::new().write(out, Compression::best());
    gzip.write_all(&page)?;
    gzip.finish()?;
    let mut crc = Crc::new();
    crc.update(&page);
    println!("cargo::rustc-env=PAGE_TAG={:x}-{:08x}", page.len(), crc.sum());
    println!(
        "cargo::rustc-env=PAGE_POLICY={}",
        fs::read_to_string("page/dist/content-security-policy")?.trim()
    );
    Ok(())
}
