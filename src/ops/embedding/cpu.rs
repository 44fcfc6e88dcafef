//! Embedding on the CPU.

use super::{Embedding, EmbeddingSpec, reference};
use crate::cpu::map::PIECE;
use crate::cpu::{Cpu, CpuBuffer, Fresh};
use crate::error::Result;
use crate::tensor::{DType, Real};

impl Embedding for Cpu<'_> {
    fn embedding(&self, spec: &EmbeddingSpec, weight: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => rows::<f64>(self, spec, weight),
            _ => rows::<f32>(self, spec, weight),
        }
    }

    fn embedding_backward(&self, spec: &EmbeddingSpec, dy: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => sums::<f64>(self, spec, dy),
            _ => sums::<f32>(self, spec, dy),
        }
    }
}

fn rows<R: Real>(cpu: &Cpu<'_>, spec: &EmbeddingSpec, weight: &CpuBuffer) -> Result<CpuBuffer> {
    let (w, ids, features) = (weight.slice::<R>()?, spec.ids.as_slice(), spec.features);
    let mut y = Fresh::<R>::new(ids.len() * features)?;
    cpu.pieces(&mut y, rows_of(PIECE, features) * features, |start, y| {
        for (y, &id) in y.chunks_exact_mut(features).zip(&ids[start / features..]) {
            y.copy_from_slice(&w[id as usize * features..][..features]);
        }
        Ok(())
    })?;
    Ok(y.done())
}

fn sums<R: Real>(cpu: &Cpu<'_>, spec: &EmbeddingSpec, dy: &CpuBuffer) -> Result<CpuBuffer> {
    let (dy, features) = (dy.slice::<R>()?, spec.features);
    let mut dw = cpu.cleared(spec.vocabulary * features)?;
    let rows = rows_of(16 * PIECE, features);
    for (ids, dy) in spec.ids.as_slice().chunks(rows).zip(dy.chunks((rows * features).max(1))) {
        cpu.poll()?;
        reference::add(ids, features, dy, &mut dw);
    }
    Ok(dw.done())
}

/// How many rows have some `elements`.
fn rows_of(elements: usize, features: usize) -> usize {
    elements.checked_div(features).unwrap_or(1).max(1)
}
