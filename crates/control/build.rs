//! Tells cargo when the embedded console changed. Building the console is `cargo xtask console`'s work, never this script's.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A path that does not exist would make cargo run this each time; then its parent is watched instead.
    for folder in ["../../console/dist", "../../console"] {
        if Path::new(folder).is_dir() {
            println!("cargo::rerun-if-changed={folder}");
            return;
        }
    }
}
