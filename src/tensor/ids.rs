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

    /// The places of the ids that are not skipped, by id, those of one id ascending: a radix sort.
    pub fn by_id(&self, poll: &dyn Fn() -> Result<()>) -> Result<Vec<u32>> {
        const BITS: u32 = 11;
        let (values, kept) = (&self.values, self.kept);
        let room = || {
            let mut places = Vec::<u32>::new();
            let fits = u32::try_from(values.len()).is_ok() && places.try_reserve_exact(kept).is_ok();
            if fits { Ok(places) } else { Err(Error::memory(format_args!("{kept} ids in order"))) }
        };
        let (mut order, mut next) = (room()?, room()?);
        for (places, ids) in (0..).step_by(SPELL).zip(values.chunks(SPELL)) {
            poll()?;
            order.extend((places..).zip(ids).filter(|&(_, &id)| id >= 0).map(|(place, _)| place as u32));
        }
        next.resize(kept, 0);
        for shift in (0..usize::BITS - self.bound.saturating_sub(1).leading_zeros()).step_by(BITS as usize) {
            let digit = |place: u32| values[place as usize] as usize >> shift & ((1 << BITS) - 1);
            // where the places of each digit go
            let mut at = [0usize; 1 << BITS];
            for places in order.chunks(SPELL) {
                poll()?;
                places.iter().for_each(|&place| at[digit(place)] += 1);
            }
            let mut sum = 0;
            for count in &mut at {
                sum += std::mem::replace(count, sum);
            }
            for places in order.chunks(SPELL) {
                poll()?;
                for &place in places {
                    let at = &mut at[digit(place)];
                    next[*at] = place;
                    *at += 1;
                }
            }
            std::mem::swap(&mut order, &mut next);
        }
        Ok(order)
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
    fn by_id() {
        let raw: Vec<i64> =
            (0..200_000).map(|i| if i % 7 == 3 { -1 } else { i * 7_919_993 % 16_777_213 % 50_000 }).collect();
        let ids = Ids::new("t", "ids", &raw, &[raw.len()], 1 << 40, Some(-1), &|| Ok(())).unwrap();
        let mut want: Vec<u32> = (0..200_000).filter(|&place| raw[place as usize] >= 0).collect();
        want.sort_by_key(|&place| raw[place as usize]);
        assert_eq!(ids.by_id(&|| Ok(())).unwrap(), want);
    }

    #[test]
    fn the_first_offender_is_named() {
        // S-15
        let ids = [0, 64, 3, 70, -1, 5];
        let e = Ids::new("embedding", "ids", &ids, &[3, 2], 65, None, &|| Ok(())).unwrap_err();
        assert_eq!(
            (e.kind, e.to_string().as_str()),
            (Kind::Index, "embedding: ids: expected 0 <= id < 65, got 70 at (1, 1).")
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
