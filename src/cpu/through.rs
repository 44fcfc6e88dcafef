//! Ids through a strided view: those that name the same blocks in the memory that it looks at.

use super::map::PIECE;
use super::{Cpu, Fresh};
use crate::error::Result;
use crate::tensor::{Ids, Layout, Walk, elements};
use std::ops::Range;

/// For an id that picks nothing.
const SKIPPED: i64 = i64::MIN;

impl Cpu<'_> {
    /// Of what `ids` pick from `axes` of a view of `len` elements, seen as one axis, in C order the blocks of `width`
    /// elements that lie side by side, as ids of all such blocks of the memory; and `width`, as large as can be. -1 stays.
    pub fn ids_through(&self, ids: &Ids, view: &Layout, axes: Range<usize>, len: usize) -> Result<(Fresh<i64>, usize)> {
        let (shape, strides) = (&view.shape, &view.strides);
        let (mut behind, mut width) = (shape.len(), 1);
        while behind > axes.end && !shape.contains(&0) {
            let (before, wider) = (behind - 1, width * shape[behind - 1]);
            let whole = shape[before] == 1 || strides[before] == width as isize;
            let aligned = |step: &isize| step.unsigned_abs().is_multiple_of(wider);
            if !(whole && strides[..before].iter().all(aligned) && [view.offset, len].iter().all(|n| n % wider == 0)) {
                break;
            }
            (behind, width) = (before, wider);
        }
        let step = |axis: usize| strides[axis] / width as isize;
        let origin = (view.offset / width) as i64;
        // where the blocks of each id begin
        let mut starts = self.cleared::<i64>(ids.len())?;
        self.pieces(&mut starts, PIECE, |first, starts| {
            for (at, into) in starts.iter_mut().enumerate() {
                *into = ids.get(first + at).map_or(SKIPPED, |mut id| {
                    axes.clone().rev().fold(origin, |at, axis| {
                        let i = id % shape[axis];
                        id /= shape[axis];
                        at + (i as isize * step(axis)) as i64
                    })
                });
            }
            Ok(())
        })?;
        let all = [&shape[..axes.start], &[ids.len()], &shape[axes.end..behind]].concat();
        let steps: Vec<isize> = (0..axes.start).map(step).chain([0]).chain((axes.end..behind).map(step)).collect();
        let mut which = vec![0; all.len()];
        which[axes.start] = 1;
        let mut made = self.cleared::<i64>(elements(&all)?)?;
        if made.is_empty() {
            return Ok((made, width));
        }
        let walk = Walk::new(&all, [&steps, &which]);
        let (columns, [step, next]) = walk.inner();
        self.pieces(&mut made, PIECE, |first, mut made| {
            let mut at = first;
            while !made.is_empty() {
                let [offset, id] = walk.offsets(at);
                let (row, rest) = made.split_at_mut(made.len().min(columns - at % columns));
                for (j, into) in row.iter_mut().enumerate() {
                    *into = match starts[(id + j as isize * next) as usize] {
                        SKIPPED => -1,
                        start => start + (offset + j as isize * step) as i64,
                    };
                }
                (at, made) = (at + row.len(), rest);
            }
            Ok(())
        })?;
        Ok((made, width))
    }
}
