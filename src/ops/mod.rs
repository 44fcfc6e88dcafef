//! The table of operations: one folder each. Docs, stubs and coverage are derived from it.
//!
//! A folder holds `mod.rs` (specification, equations and their source, the trait an engine implements),
//! `reference.rs` (the equations in plain loops, generic over f32 and f64), `cpu.rs`, `gpu.rs` and its shaders,
//! `python.rs` (the border) and `tests.rs`. How to add one: `CONTRIBUTING.md`.

pub mod activation;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod linear;
pub mod loss;
pub mod lstm;
pub mod optim;
pub mod recurrent;
pub mod reduce;
pub mod shape;

/// An operation, as documentation and coverage see it.
pub struct Row {
    /// its folder
    pub name: &'static str,
    /// one line
    pub summary: &'static str,
}

macro_rules! table {
    ($($name:ident: $summary:literal,)*) => {
        /// Every operation. An operation without its shader is not in the table.
        pub const TABLE: &[Row] = &[$(Row { name: stringify!($name), summary: $summary }),*];

        /// Adds every operation's functions to the Python module.
        #[cfg(feature = "python")]
        pub fn register(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
            $($name::python::register(module)?;)*
            Ok(())
        }
    };
}

table! {
    activation: "sigmoid, tanh and relu",
    dropout: "dropout by a counter-based mask",
    elementwise: "arithmetic element by element, with broadcasting",
    embedding: "rows of a table by their number",
    linear: "linear layers and matrix products",
    loss: "cross-entropy of class ids",
    lstm: "a stack of LSTM layers over a sequence",
    optim: "SGD, Adam, AdamW and clipping by norm, in place",
    reduce: "sums over axes",
    shape: "strided copies, joining, picking by position, and their adjoints",
}
