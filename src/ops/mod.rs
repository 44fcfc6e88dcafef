//! The operations, a folder each, and their table, [`register`]: what Python gets, and what `tools/stubs.py` writes its
//! stub from.
//!
//! A folder holds `mod.rs` (specification, equations and their source, the trait an engine implements),
//! `reference.rs` (the equations in plain loops, generic over f32 and f64), `cpu.rs`, `gpu.rs` and its shaders,
//! `python.rs` (the border), `tests.rs` and `gpu_tests.rs`. `embedding` is `pick` under a name of its own, `recurrent`
//! what all recurrent layers share. How to add one: `CONTRIBUTING.md`.

pub mod activation;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod linear;
pub mod loss;
pub mod lstm;
pub mod optim;
pub mod pick;
pub mod recurrent;
pub mod reduce;
pub mod shape;

/// The table of operations: adds every operation's functions to the Python module. An operation without its shader is
/// not in it.
#[cfg(feature = "python")]
pub fn register(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
    activation::python::register(module)?;
    dropout::python::register(module)?;
    elementwise::python::register(module)?;
    embedding::python::register(module)?;
    linear::python::register(module)?;
    loss::python::register(module)?;
    lstm::python::register(module)?;
    optim::python::register(module)?;
    pick::python::register(module)?;
    reduce::python::register(module)?;
    shape::python::register(module)?;
    Ok(())
}
