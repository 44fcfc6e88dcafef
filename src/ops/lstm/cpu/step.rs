//! One step at a time, for streams: nothing is allocated, no thread is woken, no weight is packed in a step.

use super::kernels::Forward;
use super::{bias_image, forward_image};
use crate::cpu::pack::Panels;
use crate::cpu::{Cpu, CpuBuffer, Fresh, Isa, launch};
use crate::error::{Error, Result};
use crate::ops::recurrent::{LayerSpec, Weights};
use crate::tensor::{DType, elements};
use std::sync::Arc;

/// A layer with its state, for B rows that advance together. The bits are those of the whole-sequence call.
pub struct LstmStep {
    isa: Isa,
    batch: usize,
    input: usize,
    hidden: usize,
    ih: Arc<Panels>,
    hh: Arc<Panels>,
    bias: Fresh<f32>,
    /// h of this step and of the one before, in turn
    h: [Fresh<f32>; 2],
    c: Fresh<f32>,
    /// how many steps were taken, modulo 2: which h is the newest, and which way panels are walked
    turn: usize,
}

impl LstmStep {
    /// A stream with state zero; `spec.steps` is not looked at. f32 only.
    pub fn new(cpu: &Cpu<'_>, spec: &LayerSpec, weights: &Weights<CpuBuffer>) -> Result<LstmStep> {
        if spec.dtype != DType::F32 {
            return Err(Error::dtype("lstm step", "weight_ih", "float32", spec.dtype));
        }
        let (input, hidden) = (spec.input, spec.hidden);
        if !weights.fit(spec) {
            return Err(Error::internal("lstm step: weights that do not fit their spec"));
        }
        let isa = cpu.isa()?;
        let hh = forward_image(cpu, &weights.hh, hidden, hidden)?;
        let state = elements(&spec.state())?;
        Ok(LstmStep {
            isa,
            batch: spec.batch,
            input,
            hidden,
            ih: forward_image(cpu, &weights.ih, hidden, input)?,
            bias: bias_image(cpu, weights, hidden, hh.count())?,
            hh,
            h: [cpu.cleared(state)?, cpu.cleared(state)?],
            c: cpu.cleared(state)?,
            turn: 0,
        })
    }

    /// h and c (B, H) as they are now.
    pub fn state(&self) -> (&[f32], &[f32]) {
        (&self.h[self.turn], &self.c)
    }

    /// Puts h and c (B, H) in place of what is there.
    pub fn set_state(&mut self, h: &[f32], c: &[f32]) -> Result<()> {
        for (name, given) in [("h", h), ("c", c)] {
            if given.len() != self.c.len() {
                return Err(Error::shape("lstm step", name, format_args!("{} values", self.c.len()), given.len()));
            }
        }
        self.h[self.turn].copy_from_slice(h);
        self.c.copy_from_slice(c);
        Ok(())
    }

    /// Takes `x` (B, I), advances the state and writes h (B, H) to `out`.
    pub fn step(&mut self, x: &[f32], out: &mut [f32]) -> Result<()> {
        if x.len() != self.batch * self.input || out.len() != self.c.len() {
            let expected = format_args!("{} and {} values", self.batch * self.input, self.c.len()).to_string();
            return Err(Error::shape("lstm step", "x, out", expected, format_args!("{} and {}", x.len(), out.len())));
        }
        let [a, b] = &mut self.h;
        let (before, after) = if self.turn == 0 { (&**a, &mut **b) } else { (&**b, &mut **a) };
        let kernel = Forward {
            steps: (0, 1),
            turn: self.turn,
            rows: (0, self.batch),
            panels: (0, self.hh.count()),
            batch: self.batch,
            input: self.input,
            hidden: self.hidden,
            x: x.as_ptr(),
            projected: std::ptr::null(),
            projected_from: 0,
            ih: self.ih.as_ptr(),
            hh: self.hh.as_ptr(),
            bias: self.bias.as_ptr(),
            all_panels: self.hh.count(),
            h0: before.as_ptr(),
            c0: self.c.as_ptr(),
            y: after.as_mut_ptr(),
            c: self.c.as_mut_ptr(),
            c_step: 0,
            gates: std::ptr::null_mut(),
        };
        // SAFETY: all sizes are those of `new`, x and out were checked.
        unsafe { launch(self.isa, &kernel) };
        out.copy_from_slice(after);
        self.turn ^= 1;
        Ok(())
    }
}
