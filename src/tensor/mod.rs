//! What a tensor is, without saying where it lives: element types, checked shape arithmetic, checked ids, strided
//! layouts, the counter-based random generator; lists with room; and how often plain loops ask whether to stop.

mod dtype;
mod ids;
mod layout;
mod list;
mod random;
mod shape;
mod spells;
mod walk;

pub use dtype::{DType, Element, Real, joined};
pub use ids::Ids;
pub use layout::Layout;
pub use list::list;
#[cfg(test)]
pub(crate) use random::noise;
pub use random::{Philox, uniform};
pub use shape::{Shape, broadcast, bytes, elements};
pub use spells::{SPELL, Spells};
pub use walk::Walk;
