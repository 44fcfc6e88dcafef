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
        let len = view.shape.iter().product();
        let mut y = Fresh::<T>::new(len)?;
        if len == 0 {
            return Ok(y);
        }
        let walk = Walk::new(&view.shape, [&view.strides]);
        let (columns, [step]) = walk.inner();
        if walk.rows() == 1 {
            self.pieces(&mut y, PIECE, |start, y| {
                let first = view.offset as isize + start as isize * step;
                row(x, first, step, y);
                Ok(())
            })?;
            return Ok(y);
        }
        if columns > PIECE && (step == 1 || step == 0) {
            // rows longer than a unit of work
            self.scatter(&mut y, &Layout::contiguous(&view.shape), x, view)?;
            return Ok(y);
        }
        let rows = (PIECE / columns).max(SQUARE);
        self.pieces(&mut y, rows * columns, |start, y| {
            let first = start / columns;
            walk.runs(first, first + y.len() / columns, |at, count, [offset], [down]| {
                let y = &mut y[(at - first) * columns..][..count * columns];
                let offset = view.offset as isize + offset;
                if down == 1 && step != 1 && step != 0 {
                    transposed(x, offset, step, columns, y);
                } else {
                    for (i, y) in y.chunks_exact_mut(columns).enumerate() {
                        row(x, offset + i as isize * down, step, y);
                    }
                }
                Ok(())
            })
        })?;
        Ok(y)
    }

    /// Zeros (`len` of them) with `values` written through a view that holds no element twice.
    pub fn place<T: Element>(&self, values: &[T], view: &Layout, len: usize) -> Result<Fresh<T>> {
        let mut x = Fresh::<T>::zeros(len)?;
        if values.is_empty() {
            return Ok(x);
        }
        let walk = Walk::new(&view.shape, [&view.strides]);
        let (columns, [step]) = walk.inner();
        let mut rows = values.chunks_exact(columns);
        walk.runs(0, walk.rows(), |_, count, [offset], [down]| {
            for (i, values) in rows.by_ref().take(count).enumerate() {
                let first = view.offset as isize + offset + i as isize * down;
                if step == 1 {
                    x[first as usize..][..columns].copy_from_slice(values);
                } else {
                    values.iter().enumerate().for_each(|(j, &v)| x[(first + j as isize * step) as usize] = v);
                }
            }
            self.poll()
        })?;
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
        // units of rows and, where these are long, of parts of a row
        let width = columns.min(PIECE);
        let (height, across) = ((PIECE / width).min(walk.rows()), columns.div_ceil(width));
        let units = walk.rows().div_ceil(height) * across;
        let work = |unit: usize| {
            let (first, start) = (unit / across * height, unit % across * width);
            let (width, (x, values)) = (width.min(columns - start), pointers.get());
            walk.runs(first, walk.rows().min(first + height), |_, count, [offset, from_offset], [down, from_down]| {
                for i in 0..count as isize {
                    let at = view.offset as isize + offset + i * down + start as isize * step;
                    let from = from.offset as isize + from_offset + i * from_down + start as isize * from_step;
                    // SAFETY: both views lie in their memory, as was checked above; no element is in two units.
                    unsafe {
                        let (x, values) = (x.wrapping_offset(at), values.wrapping_offset(from));
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

fn row<T: Element>(x: &[T], first: isize, step: isize, y: &mut [T]) {
    match step {
        1 => y.copy_from_slice(&x[first as usize..][..y.len()]),
        0 => y.fill(x[first as usize]),
        _ => y.iter_mut().enumerate().for_each(|(j, y)| *y = x[(first + j as isize * step) as usize]),
    }
}

/// y[i, j] = x[offset + i + j * step], square by square.
fn transposed<T: Element>(x: &[T], offset: isize, step: isize, columns: usize, y: &mut [T]) {
    let rows = y.len() / columns;
    for i in (0..rows).step_by(SQUARE) {
        let height = SQUARE.min(rows - i);
        for j in (0..columns).step_by(SQUARE) {
            for j in j..columns.min(j + SQUARE) {
                let from = (offset + i as isize + j as isize * step) as usize;
                x[from..][..height].iter().enumerate().for_each(|(k, &x)| y[(i + k) * columns + j] = x);
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
