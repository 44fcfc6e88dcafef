//! seqcore: recurrent sequence models, forward and backward, on the CPU and on any GPU.
//!
//! * [`error`]: the one error; [`tensor`]: shapes, layouts, random numbers; [`backend`]: what an engine offers
//! * [`ops`]: one folder an operation: meaning, plain reference, CPU kernel, shader, Python border, tests
//! * [`cpu`], `gpu`: the two workshops of kernel parts; they know neither operations nor Python
//! * `device`, `python`: which engine a call goes to, and the border to NumPy

pub mod backend;
pub mod cpu;
pub mod device;
pub mod error;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod ops;
#[cfg(feature = "python")]
mod python;
pub mod tensor;
