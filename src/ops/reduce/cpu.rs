//! Sums on the CPU: the workshop's tree in vectors for f32, the reference for f64.

use super::{Reduce, SumSpec, reference};
use crate::cpu::map::PIECE;
use crate::cpu::{Cpu, CpuBuffer, Fresh};
use crate::error::Result;
use crate::tensor::DType;

impl Reduce for Cpu<'_> {
    fn sum(&self, spec: &SumSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        if spec.dtype == DType::F64 {
            return plain(self, spec, x.slice()?);
        }
        let x = x.slice::<f32>()?;
        let y = match &spec.order {
            None => self.sum_axis(x, spec.outer, spec.n, spec.inner)?,
            Some(order) => self.sum_axis(&self.gather(x, order)?, spec.outer, spec.n, 1)?,
        };
        Ok(y.done())
    }
}

/// The reference's tree for every sum, some of them at a time.
fn plain(cpu: &Cpu<'_>, spec: &SumSpec, x: &[f64]) -> Result<CpuBuffer> {
    let SumSpec { outer, n, inner, .. } = *spec;
    let ordered = spec.order.as_ref().map(|order| cpu.gather(x, order)).transpose()?;
    let x = ordered.as_deref().unwrap_or(x);
    let mut y = Fresh::<f64>::new(outer * inner)?;
    cpu.pieces(&mut y, PIECE / n.clamp(1, PIECE), |start, y| {
        for (at, y) in (start..).zip(y) {
            let (o, i) = (at / inner, at % inner);
            *y = reference::tree(0, n, &|k| x[(o * n + k) * inner + i]);
        }
        Ok(())
    })?;
    Ok(y.done())
}
