//! Copies through strided views, and sums at given places.

use super::lanes::{Kernel, Lanes, launch};
use super::map::PIECE;
use super::pack::Shared;
use super::{Cpu, Fresh, Isa};
use crate::error::{Error, Result};
use crate::tensor::{Element, Layout, Walk};

/// Side of the squares in which a transposing copy goes: 32 rows of 32 elements stay in the first-level cache.
const SQUARE: usize = 32;

impl Cpu<'_> {
    /// What the view shows, in C order.
    pub fn gather<T: Element>(&self, x: &[T], view: &Layout) -> Result<Fresh<T>> {
        let mut y = Fresh::<T>::new(view.shape.iter().product())?;
        if !y.is_empty() {
            self.scatter(&mut y, &Layout::contiguous(&view.shape), x, view)?;
        }
        Ok(y)
    }

    /// Zeros (`len` of them) with `values` written through a view that holds no element twice.
    pub fn place<T: Element>(&self, values: &[T], view: &Layout, len: usize) -> Result<Fresh<T>> {
        let mut x = self.cleared(len)?;
        if !values.is_empty() {
            self.scatter(&mut x, view, values, &Layout::contiguous(&view.shape))?;
        }
        Ok(x)
    }

    /// Writes `values`, seen through `from`, over what `view` shows of `x`. The views have one shape, `view` holds no
    /// element twice.
    pub fn scatter<T: Element>(&self, x: &mut [T], view: &Layout, values: &[T], from: &Layout) -> Result<()> {
        Layout::new("scatter", &view.shape, &view.strides, view.offset, x.len())?;
        Layout::new("scatter", &view.shape, &from.strides, from.offset, values.len())?;
        if !view.is_distinct() {
            return Err(Error::internal("scatter: a view that holds an element twice"));
        }
        if view.shape.contains(&0) {
            return Ok(());
        }
        // SAFETY: units write disjoint elements, and nobody writes the values.
        let pointers = unsafe { Shared::new((x.as_mut_ptr(), values.as_ptr())) };
        let walk = Walk::new(&view.shape, [&view.strides, &from.strides]);
        let (columns, [step, from_step]) = walk.inner();
        // units of rows and, where these are long, of parts of a row: where a column of the values is what lies
        // together in memory, parts of several rows
        let together = if from_step == 1 || from_step == 0 { 1 } else { walk.rows().min(SQUARE) };
        let width = columns.min(PIECE / together);
        let (height, across) = ((PIECE / width).max(together).min(walk.rows()), columns.div_ceil(width));
        let units = walk.rows().div_ceil(height) * across;
        let work = |unit: usize| {
            let (first, start) = (unit / across * height, unit % across * width);
            let (width, (x, values)) = (width.min(columns - start), pointers.get());
            walk.runs(first, walk.rows().min(first + height), |_, count, [offset, from_offset], [down, from_down]| {
                let x = x.wrapping_offset(view.offset as isize + offset + start as isize * step);
                let values = values.wrapping_offset(from.offset as isize + from_offset + start as isize * from_step);
                // SAFETY: both views lie in their memory, as was checked above; no element is in two units.
                unsafe {
                    if (step, from_down) == (1, 1) && from_step != 1 && from_step != 0 {
                        transposed(x, down, values, from_step, [count, width]);
                        return Ok(());
                    }
                    for i in 0..count as isize {
                        let (x, values) = (x.wrapping_offset(i * down), values.wrapping_offset(i * from_down));
                        match (step, from_step) {
                            (1, 1) => std::ptr::copy_nonoverlapping(values, x, width),
                            (1, 0) => std::slice::from_raw_parts_mut(x, width).fill(*values),
                            _ => (0..width as isize).for_each(|j| {
                                *x.wrapping_offset(j * step) = *values.wrapping_offset(j * from_step);
                            }),
                        }
                    }
                }
                Ok(())
            })
        };
        if units == 1 {
            return work(0);
        }
        self.run(units, |unit| {
            // the body never fails
            let _ = work(unit);
        })
    }
}

/// `x[i * down + j]` = `values[i + j * step]` for i and j below the sizes, square by square.
///
/// # Safety
/// All of them can be read and written.
unsafe fn transposed<T: Element>(x: *mut T, down: isize, values: *const T, step: isize, [rows, columns]: [usize; 2]) {
    for i in (0..rows).step_by(SQUARE) {
        let height = SQUARE.min(rows - i);
        for j in (0..columns).step_by(SQUARE) {
            for j in j..columns.min(j + SQUARE) {
                let (x, values) = (
                    x.wrapping_offset(i as isize * down).wrapping_add(j),
                    values.wrapping_offset(i as isize + j as isize * step),
                );
                for k in 0..height {
                    // SAFETY: row i + k, column j.
                    unsafe { *x.wrapping_offset(k as isize * down) = *values.add(k) };
                }
            }
        }
    }
}

/// `x[ids[i], w] += values[i, w]` for blocks of `width`, i ascending, with subnormals flushed; skipped ids add none.
pub fn put_add(isa: Isa, ids: &[i64], values: &[f32], x: &mut [f32], width: usize) -> Result<()> {
    struct PutAdd {
        ids: *const i64,
        n: usize,
        values: *const f32,
        x: *mut f32,
        width: usize,
    }
    impl Kernel for PutAdd {
        #[inline(always)]
        unsafe fn run<L: Lanes>(&self) {
            for i in 0..self.n {
                // SAFETY: the lengths and every id are checked below.
                unsafe {
                    let id = *self.ids.add(i);
                    if id < 0 {
                        continue;
                    }
                    let x = std::slice::from_raw_parts_mut(self.x.add(id as usize * self.width), self.width);
                    let values = std::slice::from_raw_parts(self.values.add(i * self.width), self.width);
                    x.iter_mut().zip(values).for_each(|(x, v)| *x += v);
                }
            }
        }
    }
    let bound = x.len().checked_div(width).unwrap_or(0) as i64;
    if ids.len().checked_mul(width) != Some(values.len()) || ids.iter().any(|&id| id >= bound) {
        return Err(Error::internal("an id outside its memory"));
    }
    let kernel = PutAdd { ids: ids.as_ptr(), n: ids.len(), values: values.as_ptr(), x: x.as_mut_ptr(), width };
    // SAFETY: `values` has a block for each id, and x one below every id.
    unsafe { launch(isa, &kernel) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    #[test]
    fn rows_longer_than_a_unit() {
        let x: Vec<i64> = (0..(PIECE as i64 + 100) * 70).collect();
        for (rows, columns, [down, step]) in [
            (3, PIECE + 77, [1, 3]),
            (33, PIECE + 77, [1, 33]),
            (70, PIECE + 1, [1, 70]),
            (2, PIECE * 2 + 5, [5, 2]),
            (2, PIECE + 5, [1, 1]),
            (2, PIECE + 5, [1, 0]),
        ] {
            let view = Layout { shape: Shape::from([rows, columns]), strides: vec![down, step], offset: 1 };
            for threads in [1, 3] {
                let y = Cpu::quiet().with_threads(threads).gather(&x, &view).unwrap();
                for (i, y) in y.chunks_exact(columns).enumerate() {
                    assert!((0..).zip(y).all(|(j, &y)| y as isize == 1 + i as isize * down + j * step), "{rows}: {i}");
                }
            }
        }
    }
}
