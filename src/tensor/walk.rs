//! Several strided views of one shape, stepped through together.

use crate::error::Result;

/// The axes of `N` views, as few as possible: axes of size 1 are left out, and neighbours that every view walks as
/// one axis are one. There is at least one axis, and no size is 0 (`new` is for shapes with elements).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk<const N: usize> {
    /// sizes of the axes, outermost first
    pub shape: Vec<usize>,
    /// step of each axis, for each view
    pub strides: Vec<[isize; N]>,
}

impl<const N: usize> Walk<N> {
    /// `strides` has as many steps as `shape` has axes, for each view.
    pub fn new(shape: &[usize], strides: [&[isize]; N]) -> Walk<N> {
        let mut walk = Walk { shape: Vec::new(), strides: Vec::new() };
        for (axis, &n) in shape.iter().enumerate().filter(|&(_, &n)| n != 1) {
            let step: [isize; N] = std::array::from_fn(|view| strides[view][axis]);
            match (walk.shape.last_mut(), walk.strides.last_mut()) {
                (Some(size), Some(outer)) if (0..N).all(|i| step[i].checked_mul(n as isize) == Some(outer[i])) => {
                    *size *= n;
                    *outer = step;
                }
                _ => {
                    walk.shape.push(n);
                    walk.strides.push(step);
                }
            }
        }
        if walk.shape.is_empty() {
            walk.shape.push(1);
            walk.strides.push([0; N]);
        }
        walk
    }

    /// Size and steps of the last axis.
    pub fn inner(&self) -> (usize, [isize; N]) {
        (self.shape.last().copied().unwrap_or(1), self.strides.last().copied().unwrap_or([0; N]))
    }

    /// How many times the last axis is walked.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Where the element `index`, counted in C order, is found in each view.
    pub fn offsets(&self, index: usize) -> [isize; N] {
        let mut rest = index;
        let mut at = [0isize; N];
        for (&n, strides) in self.shape.iter().zip(&self.strides).rev() {
            let i = (rest % n) as isize;
            rest /= n;
            at.iter_mut().zip(strides).for_each(|(at, step)| *at += i * step);
        }
        at
    }

    /// Whether view `view` is the walk in C order without gaps: element `index` is number `index` there.
    pub fn is_linear(&self, view: usize) -> bool {
        let mut step = 1isize;
        self.shape.iter().zip(&self.strides).rev().all(|(&n, strides)| {
            let right = n == 1 || strides[view] == step;
            step = step.saturating_mul(n as isize);
            right
        })
    }

    /// The last `K` axes, with axes of size 1 before them where there are fewer, and the walk over the axes before.
    pub fn split<const K: usize>(&self) -> (Walk<N>, [usize; K], [[isize; N]; K]) {
        let outer = self.shape.len().saturating_sub(K);
        let (mut shape, mut strides) = ([1; K], [[0; N]; K]);
        let pad = K + outer - self.shape.len();
        shape[pad..].copy_from_slice(&self.shape[outer..]);
        strides[pad..].copy_from_slice(&self.strides[outer..]);
        let before = Walk { shape: self.shape[..outer].to_vec(), strides: self.strides[..outer].to_vec() };
        (before, shape, strides)
    }

    /// Calls `run(row, count, offsets, steps)` for rows `from .. to` in order: `count` rows from `row` on start at
    /// `offsets` and lie `steps` apart, in each view.
    pub fn runs(
        &self,
        from: usize,
        to: usize,
        mut run: impl FnMut(usize, usize, [isize; N], [isize; N]) -> Result<()>,
    ) -> Result<()> {
        let outer = self.shape.len() - 1;
        let (last, steps) = match outer.checked_sub(1) {
            Some(axis) => (self.shape[axis], self.strides[axis]),
            None => (1, [0; N]),
        };
        let mut row = from;
        while row < to {
            let offsets = self.offsets(row * self.inner().0);
            let count = (last - row % last).min(to - row);
            run(row, count, offsets, steps)?;
            row += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_step_together_are_one() {
        let w = Walk::new(&[2, 3, 1, 4], [&[12, 4, 99, 1], &[0, 0, 0, 0]]);
        assert_eq!((w.shape, w.strides), (vec![24], vec![[1, 0]]));
        let w = Walk::new(&[5, 3, 4], [&[12, 4, 1], &[0, 4, 1]]);
        assert_eq!((w.shape, w.strides), (vec![5, 12], vec![[12, 0], [1, 1]]));
        let w = Walk::new(&[], [&[]]);
        assert_eq!((w.rows(), w.inner()), (1, (1, [0])));
    }

    #[test]
    fn parts_of_a_walk() {
        let w = Walk::new(&[2, 3, 4], [&[1, 2, 6], &[12, 4, 1]]);
        assert_eq!((w.is_linear(0), w.is_linear(1)), (false, true));
        assert_eq!(w.offsets(17), [1 + 2 + 6, 17]);
        let (outer, shape, strides) = w.split::<2>();
        assert_eq!((outer.shape, shape, strides), (vec![2], [3, 4], [[2, 4], [6, 1]]));
        let (outer, shape, strides) = w.split::<4>();
        assert_eq!((shape, strides[0], outer.offsets(0)), ([1, 2, 3, 4], [0, 0], [0, 0]));
    }

    #[test]
    fn runs_cover_the_rows_in_order() {
        let w = Walk::new(&[2, 3, 4], [&[1, 2, 6]]);
        assert_eq!(w.shape, [2, 3, 4]);
        let mut seen = Vec::new();
        w.runs(1, 6, |row, count, offset, step| {
            seen.push((row, count, offset[0], step[0]));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(1, 2, 2, 2), (3, 3, 1, 2)]);
    }
}
