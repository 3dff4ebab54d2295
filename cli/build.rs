//! How the program is linked.

use std::process::Command;

/// The first C library that can load a program whose relative relocations are packed.
const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The loader reads each of the 100,000 relocations at the start, and the pages that they stand in count as memory in
    // use from then on: 2.3 MB, of which 30 KB are left when they are packed.
    if can_load_packed() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether this machine's C library can: the program is made where it runs.
#[expect(clippy::disallowed_methods, reason = "this is how Cargo tells a build script")]
fn can_load_packed() -> bool {
    let target = std::env::var("TARGET").unwrap_or_default();
    let host = std::env::var("HOST").unwrap_or_default();
    if target != host || !target.ends_with("linux-gnu") {
        return false;
    }
    // For example `glibc 2.36`.
    let Ok(output) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    let Some((major, minor)) = text.trim().strip_prefix("glibc ").and_then(|version| version.split_once('.')) else {
        return false;
    };
    let number = |text: &str| text.parse::<u32>().ok();
    number(major).zip(number(minor)).is_some_and(|found| found >= PACKED_SINCE)
}
