//! Lists as long as there are tensors or elements: where memory ends they are an error, not the end of the process.

use crate::error::{Error, Result};

/// An empty list with room for `len` entries; `what` they are is for the error.
pub fn list<T>(len: usize, what: &str) -> Result<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(len).map_err(|_| Error::memory(format_args!("{len} {what}")))?;
    Ok(list)
}
