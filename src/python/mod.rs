//! The border to Python: arrays in and out, errors, the interpreter lock, signals. The only place besides
//! `ops/*/python.rs` that knows pyo3 and numpy.
//!
//! An operation's `python.rs` is five steps: take arguments ([`Call`]), make the spec, which checks their sizes before
//! anything is copied, have their memory on the call's device ([`Call::here`]), run it there ([`Call::run`]), hand out
//! [`Array`]s.

mod arg;
mod array;
mod call;
mod errors;
mod gate;
mod kept;
mod normalize;
mod out;
mod runtime;
mod switch;
#[cfg(feature = "testing")]
mod testing;
mod transfer;

pub use arg::Arg;
pub use array::{Array, Saved};
pub use call::Call;
pub use out::Out;
pub use runtime::{parse_device, parse_dtype};

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::register(module)?;
    array::register(module)?;
    runtime::register(module)?;
    module.add_class::<switch::Switch>()?;
    #[cfg(feature = "testing")]
    testing::register(module)?;
    crate::ops::register(module)
}
