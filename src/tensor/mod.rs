//! What a tensor is, without saying where it lives: element types, checked shape arithmetic, checked ids, strided
//! layouts and the counter-based random generator.

mod dtype;
mod ids;
mod layout;
mod random;
mod shape;
mod walk;

pub use dtype::{DType, Element, Real};
pub use ids::Ids;
pub use layout::Layout;
#[cfg(test)]
pub(crate) use random::noise;
pub use random::{Philox, uniform};
pub use shape::{Shape, broadcast, bytes, elements};
pub use walk::Walk;
