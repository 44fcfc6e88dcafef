//! Sums on the CPU: the workshop's tree in vectors for f32, the reference for f64.

use super::{Reduce, SumSpec, reference};
use crate::cpu::{Cpu, CpuBuffer, Fresh};
use crate::error::Result;
use crate::tensor::DType;

impl Reduce for Cpu<'_> {
    fn sum(&self, spec: &SumSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        if spec.dtype == DType::F64 {
            let sums = reference::sum(spec, x.slice::<f64>()?);
            let mut y = Fresh::<f64>::new(sums.len())?;
            y.copy_from_slice(&sums);
            return Ok(y.done());
        }
        let x = x.slice::<f32>()?;
        let y = match &spec.order {
            None => self.sum_axis(x, spec.outer, spec.n, spec.inner)?,
            Some(order) => self.sum_axis(&self.gather(x, order)?, spec.outer, spec.n, 1)?,
        };
        Ok(y.done())
    }
}
