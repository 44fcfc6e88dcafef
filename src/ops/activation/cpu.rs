//! Activations on the CPU.

use super::{Activation, ActivationSpec, reference};
use crate::cpu::{Cpu, CpuBuffer, Fresh};
use crate::error::Result;
use crate::tensor::{DType, Real};

impl Activation for Cpu<'_> {
    fn activation(&self, spec: &ActivationSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => map::<f64>(x, |x| reference::forward(spec.function, x)),
            _ => map::<f32>(x, |x| reference::forward(spec.function, x)),
        }
    }

    fn activation_backward(&self, spec: &ActivationSpec, y: &CpuBuffer, dy: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => map2::<f64>(y, dy, |y, dy| reference::backward(spec.function, y, dy)),
            _ => map2::<f32>(y, dy, |y, dy| reference::backward(spec.function, y, dy)),
        }
    }
}

fn map<R: Real>(x: &CpuBuffer, f: impl Fn(R) -> R) -> Result<CpuBuffer> {
    let x = x.slice::<R>()?;
    let mut y = Fresh::<R>::new(x.len())?;
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x));
    Ok(y.done())
}

fn map2<R: Real>(a: &CpuBuffer, b: &CpuBuffer, f: impl Fn(R, R) -> R) -> Result<CpuBuffer> {
    let (a, b) = (a.slice::<R>()?, b.slice::<R>()?);
    let mut y = Fresh::<R>::new(a.len())?;
    y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (&a, &b))| *y = f(a, b));
    Ok(y.done())
}
