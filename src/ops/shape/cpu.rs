//! Moving elements on the CPU, by the workshop's strided copies.

use super::{CatSpec, Move, StridedSpec};
use crate::backend::{Backend, Buffer};
use crate::cpu::map::PIECE;
use crate::cpu::{Cpu, CpuBuffer, Fresh};
use crate::error::Result;
use crate::tensor::{DType, Element, Layout, Shape, Walk};

/// Elements that are written in place however they lie, some 40 ms: more would let Ctrl-C wait, and go to a copy first.
const SHORT: usize = if cfg!(test) { 1 << 18 } else { 1 << 25 };
/// Elements of a line of the cache. What is walked in smaller steps, so many or more in a row, is written in place at
/// nearly the speed of a copy.
const LINE: usize = 16;
/// Where no more than one in so many elements of the memory is written, the way over a copy is the longer one.
const SPARSE: usize = 8;

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
        self.poll()?;
        of_type!(spec.dtype, T => written::<T>(self, spec, x, &values, from))?;
        x.stamp().bump();
        Ok(())
    }

    fn cat(&self, spec: &CatSpec, parts: &[CpuBuffer]) -> Result<CpuBuffer> {
        of_type!(spec.dtype, T => cat::<T>(self, spec, parts))
    }
}

fn written<T: Element>(
    cpu: &Cpu<'_>,
    spec: &StridedSpec,
    x: &CpuBuffer,
    values: &CpuBuffer,
    from: &Shape,
) -> Result<()> {
    let (view, n, values) = (&spec.view, spec.elements(), values.slice::<T>()?);
    let from = Layout::contiguous(from).broadcast_to(&view.shape);
    // SAFETY: the caller of a mutating operation holds the only right to touch `x` (see `memory.rs`).
    let x = unsafe { x.slice_mut::<T>() }?;
    let (columns, steps) = Walk::new(&view.shape, [&view.strides, &from.strides]).inner();
    let scattered = columns < LINE || steps.iter().any(|step| step.unsigned_abs() >= LINE);
    if scattered && n > SHORT && n > x.len() / SPARSE {
        return cpu.by_copy(x, |made| cpu.scatter(made, view, values, &from));
    }
    // what has begun in place ends: nobody sees half of it
    cpu.quietly().scatter(x, view, values, &from)
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
