//! The border to Python: arrays in and out, errors, the interpreter lock, signals. The only place besides
//! `ops/*/python.rs` that knows pyo3 and numpy.
//!
//! An operation's `python.rs` is four steps: take arguments ([`Call`]), make the spec, run it on the device of its
//! arguments ([`Call::run`]), hand out [`Array`]s.

mod array;
mod call;
mod errors;
mod gate;
mod normalize;
mod out;
mod runtime;
#[cfg(feature = "testing")]
mod testing;
mod transfer;

pub use array::{Array, Saved, owned};
pub use call::{Arg, Call};
pub use out::Out;
pub use runtime::{parse_device, parse_dtype};

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::register(module)?;
    array::register(module)?;
    runtime::register(module)?;
    #[cfg(feature = "testing")]
    testing::register(module)?;
    crate::ops::register(module)
}
