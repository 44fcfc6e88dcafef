//! Picking by ids on the CPU: rows in front go to the team, the ids of a row one after the other.

use super::{Pick, PickSpec};
use crate::backend::{Backend, Buffer};
use crate::cpu::map::PIECE;
use crate::cpu::{Cpu, CpuBuffer, Fresh, put_add};
use crate::error::{Error, Result};
use crate::tensor::{DType, Element, Real};

/// Elements of one row that are written or added between two polls: some 10 ms where they lie far from each other.
const SPELL: usize = 1 << 20;
/// Elements that are written in place: more would let Ctrl-C wait, and go to a copy first.
const SHORT: usize = 1 << 22;

impl Pick for Cpu<'_> {
    fn take(&self, spec: &PickSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F32 => taken::<f32>(self, spec, x),
            DType::F64 => taken::<f64>(self, spec, x),
            DType::I64 => taken::<i64>(self, spec, x),
        }
    }

    fn put_add(&self, spec: &PickSpec, values: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F32 => {
                let isa = self.isa()?;
                added(self, spec, values, |ids, values, x| put_add(isa, ids, values, x, spec.width))
            }
            DType::F64 => added::<f64>(self, spec, values, |ids, values, x| {
                for (values, &id) in values.chunks_exact(spec.width).zip(ids) {
                    let Ok(id) = usize::try_from(id) else { continue };
                    x[id * spec.width..][..spec.width].iter_mut().zip(values).for_each(|(x, v)| *x += v);
                }
                Ok(())
            }),
            DType::I64 => Err(Error::dtype("put_add", "values", "float32 or float64", spec.dtype)),
        }
    }

    fn assign_at(&self, spec: &PickSpec, x: &CpuBuffer, values: &CpuBuffer) -> Result<()> {
        match spec.dtype {
            DType::F32 => written::<f32>(self, spec, x, values),
            DType::F64 => written::<f64>(self, spec, x, values),
            DType::I64 => written::<i64>(self, spec, x, values),
        }
    }
}

fn taken<T: Element>(cpu: &Cpu<'_>, spec: &PickSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
    let (x, ids, width) = (x.slice::<T>()?, spec.ids.as_slice(), spec.width);
    let mut y = Fresh::<T>::new(spec.picked())?;
    cpu.pieces(&mut y, PIECE, |start, mut y| {
        // from within a block to within another
        let (mut block, mut skip) = (start / width, start % width);
        while !y.is_empty() {
            let (front, i) = (block / ids.len(), block % ids.len());
            let x = &x[front * spec.ids.bound() * width..][..spec.ids.bound() * width];
            let rest;
            if width == 1 {
                // what is left of this row
                let count = y.len().min(ids.len() - i);
                let (head, tail) = y.split_at_mut(count);
                head.iter_mut()
                    .zip(&ids[i..])
                    .for_each(|(y, &id)| *y = x.get(id as usize).copied().unwrap_or_default());
                (rest, block) = (tail, block + count);
            } else {
                let (head, tail) = y.split_at_mut(y.len().min(width - skip));
                match usize::try_from(ids[i]) {
                    Ok(id) => head.copy_from_slice(&x[id * width + skip..][..head.len()]),
                    Err(_) => head.fill(T::default()),
                }
                (rest, block, skip) = (tail, block + 1, 0);
            }
            y = rest;
        }
        Ok(())
    })?;
    Ok(y.done())
}

fn added<T: Real>(
    cpu: &Cpu<'_>,
    spec: &PickSpec,
    values: &CpuBuffer,
    add: impl Fn(&[i64], &[T], &mut [T]) -> Result<()> + Sync,
) -> Result<CpuBuffer> {
    let values = values.slice::<T>()?;
    let mut x = cpu.cleared(spec.whole())?;
    rows(cpu, spec, &mut x, |ids, from, x| add(ids, &values[from..][..ids.len() * spec.width], x))?;
    Ok(x.done())
}

fn written<T: Element>(cpu: &Cpu<'_>, spec: &PickSpec, x: &CpuBuffer, values: &CpuBuffer) -> Result<()> {
    let mut values = values.clone();
    if values.as_ptr() == x.as_ptr() {
        values = cpu.upload(spec.dtype, values.bytes())?;
    }
    let (values, width) = (values.slice::<T>()?, spec.width);
    let put = |ids: &[i64], from: usize, x: &mut [T]| {
        for (i, &id) in ids.iter().enumerate() {
            let Ok(id) = usize::try_from(id) else { continue };
            let x = &mut x[id * width..][..width];
            match values {
                [one] => x.fill(*one),
                _ if width == 1 => x[0] = values[from + i],
                _ => x.copy_from_slice(&values[from + i * width..][..width]),
            }
        }
        Ok(())
    };
    cpu.poll()?;
    // SAFETY: the caller of a mutating operation holds the only right to touch `x` (see `memory.rs`).
    let into = unsafe { x.slice_mut::<T>() }?;
    if spec.picked() <= SHORT {
        // what has begun in place ends: nobody sees half of it
        rows(&cpu.quietly(), spec, into, put)?;
    } else {
        cpu.by_copy(into, |made| rows(cpu, spec, made, put))?;
    }
    x.stamp().bump();
    Ok(())
}

/// `work(ids, from, row)` for every row of `x` and spells of ids in their order; `from` is where in the picked the
/// blocks of these ids begin.
fn rows<T: Send>(
    cpu: &Cpu<'_>,
    spec: &PickSpec,
    x: &mut [T],
    work: impl Fn(&[i64], usize, &mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    let (n, row) = (spec.ids.len(), spec.ids.bound() * spec.width);
    if spec.picked() == 0 {
        return Ok(());
    }
    let spell = (SPELL / spec.width).max(1);
    // rows of one unit of work
    let some = (PIECE / row.max(n * spec.width)).max(1);
    for (k, ids) in spec.ids.as_slice().chunks(spell).enumerate() {
        cpu.poll()?;
        cpu.pieces(x, some * row, |start, x| {
            x.chunks_exact_mut(row)
                .enumerate()
                .try_for_each(|(i, x)| work(ids, ((start / row + i) * n + k * spell) * spec.width, x))
        })?;
    }
    Ok(())
}
