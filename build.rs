//! Joins shader files, because WGSL has no include, and writes the table of them that `src/gpu/shaders.rs`
//! embeds.
//!
//! A kernel file is `src/gpu/NAME.wgsl` (called `gpu/NAME`) or `src/ops/OP/NAME.wgsl` (called `OP/NAME`). A
//! line `// uses: grid, math` in it names shared files of `src/gpu/`; they are put before it, each once, in the
//! order of `SHARED` (what comes later may use what comes earlier).
// a panic here is an error of the build, shown to whoever builds
#![allow(clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const SHARED: [&str; 4] = ["grid", "math", "philox", "walk"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut kernels = Vec::new();
    for file in wgsl(Path::new("src/gpu")) {
        if !SHARED.contains(&stem(&file).as_str()) {
            kernels.push((format!("gpu/{}", stem(&file)), file));
        }
    }
    for folder in entries(Path::new("src/ops")).into_iter().filter(|p| p.is_dir()) {
        for file in wgsl(&folder) {
            kernels.push((format!("{}/{}", stem(&folder), stem(&file)), file));
        }
    }
    kernels.sort();

    let mut table = String::from("&[\n");
    for (name, file) in kernels {
        let own = read(&file);
        let mut source = String::new();
        let wanted = uses(&own);
        for shared in &wanted {
            assert!(SHARED.contains(&shared.as_str()), "{}: no shared file {shared}", file.display());
        }
        for shared in SHARED.iter().filter(|s| wanted.iter().any(|w| w == *s)) {
            source += &read(Path::new(&format!("src/gpu/{shared}.wgsl")));
            source.push('\n');
        }
        source += &own;
        let _ = writeln!(table, "    ({name:?}, {source:?}),");
    }
    table += "]\n";
    let out = env::var_os("OUT_DIR").map(PathBuf::from).expect("cargo sets OUT_DIR");
    fs::write(out.join("shaders.rs"), table).expect("the table of shaders can be written");
}

/// The names after `// uses:`.
fn uses(source: &str) -> Vec<String> {
    source
        .lines()
        .filter_map(|line| line.strip_prefix("// uses:"))
        .flat_map(|names| names.split(','))
        .map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty())
        .collect()
}

fn wgsl(folder: &Path) -> Vec<PathBuf> {
    println!("cargo::rerun-if-changed={}", folder.display());
    entries(folder).into_iter().filter(|p| p.extension().is_some_and(|e| e == "wgsl")).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let list = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    list.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

fn read(file: &Path) -> String {
    println!("cargo::rerun-if-changed={}", file.display());
    fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}
