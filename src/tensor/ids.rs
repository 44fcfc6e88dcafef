//! Ids that are known to be in range: rows of a table, classes of a loss.

use crate::error::{Error, Kind, Result};
use crate::tensor::{Shape, elements};

/// Ids that are checked between two questions whether to stop: some milliseconds.
const SPELL: usize = 1 << 20;

/// A copy of the caller's ids, each below `bound` or skipped. What was checked is what is used, whatever another
/// thread writes to the caller's array meanwhile (S-10); negative ids never wrap (S-15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// -1 where skipped
    values: Vec<i64>,
    bound: usize,
    kept: usize,
}

impl Ids {
    /// Reads `values`, of `shape`, once. Those equal to `skip` count as skipped, in range or not; the first of
    /// the others outside `0 <= id < bound` is an `IndexError` that names it and its place. `poll` is asked now and
    /// then.
    pub fn new(
        op: &str,
        argument: &str,
        values: &[i64],
        shape: &[usize],
        bound: usize,
        skip: Option<i64>,
        poll: &dyn Fn() -> Result<()>,
    ) -> Result<Ids> {
        if elements(shape)? != values.len() {
            return Err(Error::internal(format!("{op}: {argument}: ids of another number than their shape")));
        }
        let (mut copy, mut kept) = (Vec::new(), 0);
        copy.try_reserve_exact(values.len()).map_err(|_| Error::memory(format_args!("{} ids", values.len())))?;
        for (position, &id) in values.iter().enumerate() {
            if position % SPELL == SPELL - 1 {
                poll()?;
            }
            if Some(id) == skip {
                copy.push(-1);
            } else if usize::try_from(id).is_ok_and(|id| id < bound) {
                copy.push(id);
                kept += 1;
            } else {
                let (at, expected) = (place(position, shape), format!("0 <= id < {bound}"));
                return Err(Error::argument(Kind::Index, op, argument, expected, format_args!("{id} at {at}")));
            }
        }
        Ok(Ids { values: copy, bound, kept })
    }

    /// How many, skipped ones too.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What every id is below.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// The ids in order, -1 where skipped.
    pub fn as_slice(&self) -> &[i64] {
        &self.values
    }

    /// The ids in order; None where skipped.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<usize>> + '_ {
        self.values.iter().map(|&id| usize::try_from(id).ok())
    }

    /// The id at `position`; None where skipped.
    pub fn get(&self, position: usize) -> Option<usize> {
        self.values.get(position).and_then(|&id| usize::try_from(id).ok())
    }

    /// How many are not skipped.
    pub fn kept(&self) -> usize {
        self.kept
    }
}

/// The index of the element at `position` in C order.
fn place(position: usize, shape: &[usize]) -> Shape {
    let mut rest = position;
    let mut index = vec![0; shape.len()];
    for (i, &n) in index.iter_mut().zip(shape).rev() {
        *i = rest % n.max(1);
        rest /= n.max(1);
    }
    Shape(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_offender_is_named() {
        // S-15
        let ids = [0, 64, 3, 70, -1, 5];
        let e = Ids::new("embedding", "ids", &ids, &[3, 2], 65, None, &|| Ok(())).unwrap_err();
        assert_eq!(
            (e.kind, e.message.as_str()),
            (Kind::Index, "embedding: ids: expected 0 <= id < 65, got 70 at (1, 1)")
        );
        let e = Ids::new("embedding", "ids", &[-1], &[], 65, None, &|| Ok(())).unwrap_err();
        assert!(e.message.ends_with("got -1 at ()"), "{e}");
        assert_eq!(Ids::new("t", "ids", &[i64::MIN], &[1], 2, None, &|| Ok(())).unwrap_err().kind, Kind::Index);
    }

    #[test]
    fn skipped_ids_may_be_anything() {
        // S-122: ignore_index out of range, or a valid class
        let ids = Ids::new("t", "ids", &[1, -100, 0], &[3], 2, Some(-100), &|| Ok(())).unwrap();
        assert_eq!(ids.iter().collect::<Vec<_>>(), [Some(1), None, Some(0)]);
        let ids = Ids::new("t", "ids", &[1, 1, 0], &[3], 2, Some(1), &|| Ok(())).unwrap();
        assert_eq!((ids.kept(), ids.get(0), ids.get(2), ids.get(3)), (1, None, Some(0), None));
    }
}
