//! Moving elements on the CPU, by the workshop's strided copies.

use super::{CatSpec, IdsSpec, Move, StridedSpec};
use crate::backend::{Backend, Buffer};
use crate::cpu::map::PIECE;
use crate::cpu::{Cpu, CpuBuffer, Fresh, put_add};
use crate::error::{Error, Result};
use crate::tensor::{DType, Element, Layout, Real, Shape};

/// Ids whose values are added to one row in one go: some 10 ms where they lie far from each other.
const IDS: usize = 1 << 20;

/// Runs a body with `T` bound to the element type of a dtype.
macro_rules! of_type {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $t = f32;
                $body
            }
            DType::F64 => {
                type $t = f64;
                $body
            }
            DType::I64 => {
                type $t = i64;
                $body
            }
        }
    };
}

impl Move for Cpu<'_> {
    fn copy_strided(&self, spec: &StridedSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        of_type!(spec.dtype, T => Ok(self.gather(x.slice::<T>()?, &spec.view)?.done()))
    }

    fn place_strided(&self, spec: &StridedSpec, values: &CpuBuffer) -> Result<CpuBuffer> {
        of_type!(spec.dtype, T => Ok(self.place(values.slice::<T>()?, &spec.view, spec.len)?.done()))
    }

    fn assign_strided(&self, spec: &StridedSpec, x: &CpuBuffer, values: &CpuBuffer, from: &Shape) -> Result<()> {
        let mut values = values.clone();
        if values.as_ptr() == x.as_ptr() {
            values = self.upload(spec.dtype, values.bytes())?;
        }
        let from = Layout::contiguous(from).broadcast_to(&spec.view.shape);
        self.poll()?;
        // what has begun ends: nobody sees half of it
        let whole = self.quietly();
        // SAFETY: the caller of a mutating operation holds the only right to touch `x` (see `memory.rs`).
        of_type!(spec.dtype, T => whole.scatter(unsafe { x.slice_mut::<T>() }?, &spec.view, values.slice()?, &from))?;
        x.stamp().bump();
        Ok(())
    }

    fn cat(&self, spec: &CatSpec, parts: &[CpuBuffer]) -> Result<CpuBuffer> {
        of_type!(spec.dtype, T => cat::<T>(self, spec, parts))
    }

    fn take(&self, spec: &IdsSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        of_type!(spec.dtype, T => {
            let (x, ids, width) = (x.slice::<T>()?, spec.ids.as_slice(), spec.ids.bound());
            let mut y = Fresh::<T>::new(spec.picked())?;
            self.pieces(&mut y, PIECE, |start, mut y| {
                // from within a row to within another
                let (mut row, mut i) = (start / ids.len(), start % ids.len());
                while !y.is_empty() {
                    let (head, rest) = y.split_at_mut(y.len().min(ids.len() - i));
                    let x = &x[row * width..][..width];
                    head.iter_mut().zip(&ids[i..]).for_each(|(y, &id)| *y = x[id as usize]);
                    (y, row, i) = (rest, row + 1, 0);
                }
                Ok(())
            })?;
            Ok(y.done())
        })
    }

    fn put_add(&self, spec: &IdsSpec, values: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F32 => {
                let (isa, n) = (self.isa()?, spec.ids.len());
                put_adds(self, spec, values, |ids, values, x, width| put_add(isa, ids, values, n, x, width))
            }
            DType::F64 => put_adds::<f64>(self, spec, values, |ids, values, x, width| {
                for (x, values) in x.chunks_exact_mut(width).zip(values.chunks(spec.ids.len())) {
                    ids.iter().zip(values).for_each(|(&id, v)| x[id as usize] += v);
                }
                Ok(())
            }),
            DType::I64 => Err(Error::dtype("put_add", "values", "float32 or float64", spec.dtype)),
        }
    }
}

/// `add(ids, values, x, width)` for rows of x after rows, and in a row for ids after ids, in their order. Its values
/// are those of the first row and the first id on; from row to row they are as many as the spec has ids.
fn put_adds<T: Real>(
    cpu: &Cpu<'_>,
    spec: &IdsSpec,
    values: &CpuBuffer,
    add: impl Fn(&[i64], &[T], &mut [T], usize) -> Result<()> + Sync,
) -> Result<CpuBuffer> {
    let (values, n, width) = (values.slice::<T>()?, spec.ids.len(), spec.ids.bound());
    let mut x = Fresh::<T>::new(spec.whole())?;
    cpu.pieces(&mut x, PIECE, |_, x| {
        x.fill(T::ZERO);
        Ok(())
    })?;
    let rows = PIECE.checked_div(width.max(n)).unwrap_or(1).max(1);
    for (i, ids) in spec.ids.as_slice().chunks(IDS).enumerate() {
        cpu.poll()?;
        cpu.pieces(&mut x, rows * width, |start, x| {
            let (row, rows) = (start / width, x.len() / width);
            add(ids, &values[row * n + i * IDS..(row + rows - 1) * n + i * IDS + ids.len()], x, width)
        })?;
    }
    Ok(x.done())
}

fn cat<T: Element>(cpu: &Cpu<'_>, spec: &CatSpec, parts: &[CpuBuffer]) -> Result<CpuBuffer> {
    let parts = parts.iter().map(|part| part.slice::<T>()).collect::<Result<Vec<_>>>()?;
    let width: usize = spec.widths.iter().sum();
    let mut y = Fresh::<T>::new(spec.elements())?;
    cpu.pieces(&mut y, PIECE, |start, mut y| {
        // from within a row to within another
        let (mut row, mut skip) = (start / width, start % width);
        while !y.is_empty() {
            for (part, &w) in parts.iter().zip(&spec.widths) {
                if skip >= w {
                    skip -= w;
                    continue;
                }
                let (head, rest) = y.split_at_mut(y.len().min(w - skip));
                head.copy_from_slice(&part[row * w + skip..][..head.len()]);
                (y, skip) = (rest, 0);
            }
            row += 1;
        }
        Ok(())
    })?;
    Ok(y.done())
}
