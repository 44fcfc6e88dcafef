//! Linear layers on the CPU.

use super::{Linear, LinearGrads, LinearNeeds, LinearSpec, MatmulSpec, reference};
use crate::cpu::{Cpu, CpuBuffer, Fresh};
use crate::error::Result;
use crate::tensor::{DType, Real};

impl Linear for Cpu<'_> {
    fn linear(&self, spec: &LinearSpec, x: &CpuBuffer, weight: &CpuBuffer, bias: Option<&CpuBuffer>) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => plain::<f64>(spec, x, weight, bias),
            _ => plain::<f32>(spec, x, weight, bias),
        }
    }

    fn linear_backward(
        &self,
        spec: &LinearSpec,
        needs: LinearNeeds,
        x: &CpuBuffer,
        weight: &CpuBuffer,
        dy: &CpuBuffer,
    ) -> Result<LinearGrads<CpuBuffer>> {
        match spec.dtype {
            DType::F64 => plain_backward::<f64>(spec, needs, x, weight, dy),
            _ => plain_backward::<f32>(spec, needs, x, weight, dy),
        }
    }

    fn matmul(&self, spec: &MatmulSpec, a: &CpuBuffer, b: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => plain_matmul::<f64>(spec, a, b),
            _ => plain_matmul::<f32>(spec, a, b),
        }
    }
}

fn plain<R: Real>(spec: &LinearSpec, x: &CpuBuffer, weight: &CpuBuffer, bias: Option<&CpuBuffer>) -> Result<CpuBuffer> {
    let bias = bias.map(|b| b.slice::<R>()).transpose()?;
    let mut y = Fresh::<R>::new(spec.rows * spec.output)?;
    reference::forward(spec, x.slice::<R>()?, weight.slice::<R>()?, bias, &mut y);
    Ok(y.done())
}

fn plain_backward<R: Real>(
    spec: &LinearSpec,
    needs: LinearNeeds,
    x: &CpuBuffer,
    weight: &CpuBuffer,
    dy: &CpuBuffer,
) -> Result<LinearGrads<CpuBuffer>> {
    let mut grads = LinearGrads { x: None, weight: None, bias: None };
    if needs.x {
        let mut dx = Fresh::<R>::new(spec.rows * spec.input)?;
        reference::backward_x(spec, weight.slice::<R>()?, dy.slice::<R>()?, &mut dx);
        grads.x = Some(dx.done());
    }
    if needs.weight {
        let mut dw = Fresh::<R>::new(spec.output * spec.input)?;
        reference::backward_weight(spec, x.slice::<R>()?, dy.slice::<R>()?, &mut dw);
        grads.weight = Some(dw.done());
    }
    if needs.bias {
        let mut db = Fresh::<R>::new(spec.output)?;
        reference::backward_bias(spec, dy.slice::<R>()?, &mut db);
        grads.bias = Some(db.done());
    }
    Ok(grads)
}

fn plain_matmul<R: Real>(spec: &MatmulSpec, a: &CpuBuffer, b: &CpuBuffer) -> Result<CpuBuffer> {
    let mut c = Fresh::<R>::new(spec.batch * spec.m * spec.n)?;
    reference::matmul(spec, a.slice::<R>()?, b.slice::<R>()?, &mut c);
    Ok(c.done())
}
