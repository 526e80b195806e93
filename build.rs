//! Sets a `cfg` for each feature of the NGINX for which nginx-sys was built (`DEP_NGINX_*`), asks the C compiler for
//! the layout of NGINX's structures, and prepares the live page.

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

/// Prepares the output of tools/page for src/export/page.rs: the compressed assets, a tag for each asset that changes
/// with its content, the page with these tags, and the page's policy.
fn page() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=page/dist");
    let (dist, out) = (Path::new("page/dist"), env::var("OUT_DIR")?);
    let mut page = fs::read_to_string(dist.join("page.html"))?;
    for (name, variable) in
        [("page.js", "TAG_PAGE_JS"), ("page.css", "TAG_PAGE_CSS"), ("icon.svg", "TAG_ICON_SVG")]
    {
        let asset = fs::read(dist.join(name))?;
        let compressed = fs::File::create(Path::new(&out).join(format!("{name}.gz")))?;
        // The compressed file contains no time and no file name. So equal assets give equal files.
        let mut gzip = GzBuilder::new().write(compressed, Compression::best());
        gzip.write_all(&asset)?;
        gzip.finish()?;
        let tag = tag(&asset);
        println!("cargo::rustc-env={variable}={tag}");
        page = page.replace(&format!("{{{{tag:{name}}}}}"), &tag);
    }
    println!("cargo::rustc-env=TAG_PAGE_HTML={}", tag(page.as_bytes()));
    fs::write(Path::new(&out).join("page.html"), page)?;
    println!(
        "cargo::rustc-env=PAGE_POLICY={}",
        fs::read_to_string(dist.join("content-security-policy"))?.trim()
    );
    Ok(())
}

fn tag(bytes: &[u8]) -> String {
    let mut crc = Crc::new();
    crc.update(bytes);
    format!("{:x}-{:08x}", bytes.len(), crc.sum())
}
