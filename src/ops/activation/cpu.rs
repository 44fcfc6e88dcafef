//! Activations on the CPU: the workshop's own functions for f32 (errors: `cpu::math`), the reference for f64. Every
//! element is computed alone, so neither threads nor neighbours change a bit.

use super::{Activation, ActivationSpec, Function, reference};
use crate::cpu::map::{Function2, PIECE, Rows, map2, map2_plain};
use crate::cpu::{Cpu, CpuBuffer, Fresh, Lanes, math};
use crate::error::Result;
use crate::tensor::DType;

impl Activation for Cpu<'_> {
    fn activation(&self, spec: &ActivationSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        if spec.dtype == DType::F64 {
            return Ok(self.map_plain(x.slice::<f64>()?, |x| reference::forward(spec.function, x))?.done());
        }
        let x = x.slice::<f32>()?;
        let y = match spec.function {
            Function::Sigmoid => self.map::<math::Sigmoid>(x),
            Function::Tanh => self.map::<math::Tanh>(x),
            Function::Relu => self.map::<math::Relu>(x),
        };
        Ok(y?.done())
    }

    fn activation_backward(&self, spec: &ActivationSpec, y: &CpuBuffer, dy: &CpuBuffer) -> Result<CpuBuffer> {
        if spec.dtype == DType::F64 {
            let (y, dy) = (y.slice::<f64>()?, dy.slice::<f64>()?);
            let mut dx = Fresh::<f64>::new(y.len())?;
            self.pieces(&mut dx, PIECE, |start, dx| {
                let (y, dy) = (Rows::whole(&y[start..]), Rows::whole(&dy[start..]));
                map2_plain(y, dy, dx.len(), dx, |y, dy| reference::backward(spec.function, y, dy))
            })?;
            return Ok(dx.done());
        }
        let kernel = match spec.function {
            Function::Sigmoid => map2::<SigmoidBackward>,
            Function::Tanh => map2::<TanhBackward>,
            Function::Relu => map2::<ReluBackward>,
        };
        let (isa, y, dy) = (self.isa()?, y.slice::<f32>()?, dy.slice::<f32>()?);
        let mut dx = Fresh::<f32>::new(y.len())?;
        self.pieces(&mut dx, PIECE, |start, dx| {
            kernel(isa, Rows::whole(&y[start..]), Rows::whole(&dy[start..]), dx.len(), dx)
        })?;
        Ok(dx.done())
    }
}

struct SigmoidBackward;
struct TanhBackward;
struct ReluBackward;

impl Function2 for SigmoidBackward {
    #[inline(always)]
    fn of<L: Lanes>(y: L, dy: L) -> L {
        dy.mul(y.mul(L::splat(1.0).sub(y)))
    }
}

impl Function2 for TanhBackward {
    #[inline(always)]
    fn of<L: Lanes>(y: L, dy: L) -> L {
        dy.mul(L::splat(1.0).sub(y.mul(y)))
    }
}

impl Function2 for ReluBackward {
    #[inline(always)]
    fn of<L: Lanes>(y: L, dy: L) -> L {
        // subnormals count as 0; NaN compares false, so its gradient passes
        y.select_lt(L::splat(f32::MIN_POSITIVE), L::splat(0.0), dy)
    }
}
