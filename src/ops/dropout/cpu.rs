//! Dropout on the CPU: a block of Philox for four elements.

use super::{Dropout, DropoutSpec};
use crate::cpu::{Cpu, CpuBuffer, Fresh};
use crate::error::Result;
use crate::tensor::{DType, Real};

impl Dropout for Cpu<'_> {
    fn dropout(&self, spec: &DropoutSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => dropout::<f64>(self, spec, x),
            _ => dropout::<f32>(self, spec, x),
        }
    }
}

fn dropout<R: Real>(cpu: &Cpu<'_>, spec: &DropoutSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
    let x = x.slice::<R>()?;
    let mut y = Fresh::<R>::new(spec.len)?;
    if spec.is_identity() {
        y.copy_from_slice(x);
        return Ok(y.done());
    }
    let scale = R::of(spec.scale);
    for (block, (y, x)) in y.chunks_mut(4).zip(x.chunks(4)).enumerate() {
        let words = spec.philox.block(block as u64);
        for ((y, &x), word) in y.iter_mut().zip(x).zip(words) {
            *y = if spec.keeps(word) { x * scale } else { R::ZERO };
        }
        if block % (1 << 18) == 0 {
            cpu.poll()?;
        }
    }
    Ok(y.done())
}
