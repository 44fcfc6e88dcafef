//! Moving elements on the CPU, by the workshop's strided copies.

use super::{CatSpec, IdsSpec, Move, StridedSpec, reference};
use crate::backend::{Backend, Buffer};
use crate::cpu::map::PIECE;
use crate::cpu::{Cpu, CpuBuffer, Fresh, put_add};
use crate::error::{Error, Result};
use crate::tensor::{DType, Element, Layout, Shape};

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
                let mut x = Fresh::<f32>::new(spec.whole())?;
                let (isa, ids, width) = (self.isa()?, spec.ids.as_slice(), spec.ids.bound());
                let values = values.slice::<f32>()?;
                let rows = PIECE.checked_div(width.max(ids.len())).unwrap_or(1).max(1);
                self.pieces(&mut x, rows * width, |start, x| {
                    let (from, rows) = (start / width, x.len() / width);
                    x.fill(0.0);
                    put_add(isa, ids, &values[from * ids.len()..][..rows * ids.len()], x, width)
                })?;
                Ok(x.done())
            }
            DType::F64 => {
                let mut x = Fresh::<f64>::new(spec.whole())?;
                x.copy_from_slice(&reference::put_add(spec, values.slice::<f64>()?));
                Ok(x.done())
            }
            DType::I64 => Err(Error::dtype("put_add", "values", "float32 or float64", spec.dtype)),
        }
    }
}

fn cat<T: Element>(cpu: &Cpu<'_>, spec: &CatSpec, parts: &[CpuBuffer]) -> Result<CpuBuffer> {
    let parts = parts.iter().map(|part| part.slice::<T>()).collect::<Result<Vec<_>>>()?;
    let width: usize = spec.widths.iter().sum();
    let mut y = Fresh::<T>::new(spec.elements())?;
    let rows = PIECE.checked_div(width).unwrap_or(1).max(1);
    cpu.pieces(&mut y, rows * width, |start, y| {
        for (i, y) in y.chunks_exact_mut(width).enumerate() {
            let (row, mut rest) = (start / width + i, y);
            for (part, &w) in parts.iter().zip(&spec.widths) {
                let (head, tail) = rest.split_at_mut(w);
                head.copy_from_slice(&part[row * w..][..w]);
                rest = tail;
            }
        }
        Ok(())
    })?;
    Ok(y.done())
}
