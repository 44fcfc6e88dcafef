//! The table of operations.

pub mod lstm;
