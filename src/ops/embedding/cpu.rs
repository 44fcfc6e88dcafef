//! Embedding on the CPU.

use super::{Embedding, EmbeddingSpec, reference};
use crate::cpu::{Cpu, CpuBuffer, Fresh};
use crate::error::Result;
use crate::tensor::{DType, Real};

impl Embedding for Cpu<'_> {
    fn embedding(&self, spec: &EmbeddingSpec, weight: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => rows::<f64>(spec, weight),
            _ => rows::<f32>(spec, weight),
        }
    }

    fn embedding_backward(&self, spec: &EmbeddingSpec, dy: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => sums::<f64>(spec, dy),
            _ => sums::<f32>(spec, dy),
        }
    }
}

fn rows<R: Real>(spec: &EmbeddingSpec, weight: &CpuBuffer) -> Result<CpuBuffer> {
    let mut y = Fresh::<R>::new(spec.ids.len() * spec.features)?;
    reference::forward(spec, weight.slice::<R>()?, &mut y);
    Ok(y.done())
}

fn sums<R: Real>(spec: &EmbeddingSpec, dy: &CpuBuffer) -> Result<CpuBuffer> {
    let mut dw = Fresh::<R>::zeros(spec.vocabulary * spec.features)?;
    reference::backward(spec, dy.slice::<R>()?, &mut dw);
    Ok(dw.done())
}
