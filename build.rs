//! Joins shader files: WGSL has no include.
fn main() {}
