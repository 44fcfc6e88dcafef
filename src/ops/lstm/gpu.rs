//! LSTM on the GPU. Forward: one product for all inputs, then a dispatch a step. Backward: a dispatch a step and
//! one for dh0, then a product each for dx, dW_ih, dW_hh and db. Nothing is read back and nothing waits.
//!
//! Tensors larger than a binding are worked on in pieces of the sequence, through windows; bits do not change.

use super::{Lstm, LstmGrads, LstmInputs, LstmOutput, LstmOutputGrads, LstmSaved, LstmSpec, LstmWants};
use crate::backend::{Backend, Buffer};
use crate::error::{Error, Result};
use crate::gpu::{Begin, Gpu, GpuBuffer, Grid, Kernel, Matrix, Product};
use crate::tensor::DType;
use std::sync::Arc;

/// `Step` of step.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Step {
    rows: u32,
    units: u32,
    gates_start: u32,
    h_start: u32,
    c_start: u32,
    h_before: u32,
    c_before: u32,
    first: u32,
}

/// `Step` of step_backward.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct StepBackward {
    rows: u32,
    units: u32,
    gates_start: u32,
    gates_after: u32,
    c_start: u32,
    c_before: u32,
    y_start: u32,
    flags: u32,
}

/// Elements of one step of each tensor.
#[derive(Clone, Copy)]
struct Sizes {
    x: usize,
    gates: usize,
    state: usize,
}

impl Sizes {
    fn of(spec: &LstmSpec) -> Sizes {
        let state = spec.batch * spec.hidden;
        Sizes { x: spec.batch * spec.input, gates: 4 * state, state }
    }

    /// Steps whose tensors fit in a binding, with one step more of the gates and 64 elements for alignment.
    fn piece(self, gpu: &Gpu) -> usize {
        let room = gpu.context().largest_window().saturating_sub(64);
        (room / self.gates.max(self.x).max(1)).saturating_sub(1).max(1)
    }
}

impl Gpu<'_> {
    fn lstm_grid(&self, spec: &LstmSpec) -> Grid {
        let groups = spec.batch.div_ceil(4) as u64 * spec.hidden.div_ceil(64) as u64;
        let work = (spec.batch as u64).saturating_mul(8 * spec.hidden as u64).saturating_mul(spec.hidden as u64);
        Grid::new(groups).trips(spec.hidden as u64 + 1).work(work)
    }

    fn lstm_packed(&self, spec: &LstmSpec, weight_hh: &GpuBuffer) -> Result<Arc<GpuBuffer>> {
        weight_hh.stamp().packed(("lstm step", 0), || {
            let packed = self.allocate(DType::F32, weight_hh.len())?;
            let units = spec.hidden as u32;
            let params =
                Step { rows: 0, units, gates_start: 0, h_start: 0, c_start: 0, h_before: 0, c_before: 0, first: 0 };
            let grid = Grid::new((spec.hidden as u64 * spec.hidden as u64).div_ceil(64));
            self.dispatch(&Kernel::new("lstm/step", "pack"), &[weight_hh, &packed], &params, grid)?;
            Ok(packed)
        })
    }

    /// A copy of a state, or zeros.
    fn lstm_state(&self, spec: &LstmSpec, from: Option<&GpuBuffer>) -> Result<GpuBuffer> {
        match from {
            Some(state) => self.slice(state, 0, state.len()),
            None => self.zeros(DType::F32, Sizes::of(spec).state),
        }
    }
}

/// An index that a kernel takes: within a window, so far below 2^32.
fn at(index: usize) -> Result<u32> {
    u32::try_from(index).map_err(|_| Error::memory("an LSTM whose steps are larger than 2^32 elements"))
}

/// A matrix of `batch` rows a step, `width` wide, read as (k = row, outer = column) with time descending from the
/// end of `steps` steps. So a weight gradient is one chain however the sequence is cut.
fn descending<'b>((buffer, start): &'b (GpuBuffer, usize), steps: usize, batch: usize, width: usize) -> Matrix<'b> {
    let step = batch * width;
    Matrix { buffer, start: start + steps.saturating_sub(1) * step, outer: 1, k: width, k_block: -(step as isize) }
}

impl Lstm for Gpu<'_> {
    fn lstm_forward(
        &self,
        spec: &LstmSpec,
        inputs: &LstmInputs<GpuBuffer>,
        save: bool,
    ) -> Result<(LstmOutput<GpuBuffer>, Option<LstmSaved<GpuBuffer>>)> {
        let (t_all, size) = (spec.steps, Sizes::of(spec));
        let piece = size.piece(self).min(t_all);
        let y = self.allocate(spec.dtype, t_all * size.state)?;
        let gates = self.allocate(spec.dtype, if save { t_all } else { piece } * size.gates)?;
        let c = self.allocate(spec.dtype, if save { t_all } else { 1 } * size.state)?;
        let packed = self.lstm_packed(spec, &inputs.weights.hh)?;
        let begin = match &inputs.weights.bias {
            Some((ih, hh)) => Begin::Biases(ih, hh),
            None => Begin::Zero,
        };
        // Absent states are stood in for by what is only read.
        let h0 = inputs.h0.as_ref().unwrap_or(&packed);
        let c0 = inputs.c0.as_ref().unwrap_or(&packed);
        let initial = self.lstm_initial(spec, inputs)?;
        let (h0, c0) = match &initial {
            Some((h, c)) => (h, c),
            None => (h0, c0),
        };
        let has_state = initial.is_some() || inputs.h0.is_some();

        for t0 in (0..t_all).step_by(piece.max(1)) {
            let steps = piece.min(t_all - t0);
            let own = if save { t0 } else { 0 };
            let x = inputs.x.window(t0 * size.x, steps * size.x)?;
            let gates = gates.window(own * size.gates, steps * size.gates)?;
            self.product(&Product {
                m: steps * spec.batch,
                n: 4 * spec.hidden,
                k: spec.input,
                block: spec.input,
                a: Matrix { start: x.1, ..Matrix::new(&x.0, spec.input, 1) },
                b: Matrix::new(&inputs.weights.ih, spec.input, 1),
                c: &gates.0,
                c_start: gates.1,
                begin,
            })?;
            // The state before the piece is in the window too.
            let before = t0.min(1);
            let h = y.window((t0 - before) * size.state, (steps + before) * size.state)?;
            let c = if save {
                c.window((t0 - before) * size.state, (steps + before) * size.state)?
            } else {
                (c.clone(), 0)
            };
            at(h.0.len().max(gates.0.len()))?;
            let step = |i: usize| {
                let here = (i + before) * size.state;
                let earlier = here.saturating_sub(size.state);
                Step {
                    rows: spec.batch as u32,
                    units: spec.hidden as u32,
                    gates_start: (gates.1 + i * size.gates) as u32,
                    h_start: (h.1 + here) as u32,
                    c_start: if save { (c.1 + here) as u32 } else { 0 },
                    h_before: (h.1 + earlier) as u32,
                    c_before: if save { (c.1 + earlier) as u32 } else { 0 },
                    first: match (t0 + i, has_state) {
                        (0, true) => 1,
                        (0, false) => 2,
                        _ => 0,
                    },
                }
            };
            let buffers = [&*packed, h0, c0, &gates.0, &h.0, &c.0];
            self.repeat(&Kernel::new("lstm/step", "forward"), &buffers, self.lstm_grid(spec), steps, step)?;
        }
        let (h_n, c_n) = if t_all == 0 {
            (self.lstm_state(spec, inputs.h0.as_ref())?, self.lstm_state(spec, inputs.c0.as_ref())?)
        } else {
            let last = y.len() - size.state;
            let c_last = c.len() - size.state;
            (self.slice(&y, last, size.state)?, self.slice(&c, c_last, size.state)?)
        };
        let saved = save.then(|| LstmSaved { gates, c, h: y.clone() });
        Ok((LstmOutput { y, h_n, c_n }, saved))
    }

    fn lstm_backward(
        &self,
        spec: &LstmSpec,
        inputs: &LstmInputs<GpuBuffer>,
        saved: LstmSaved<GpuBuffer>,
        grads: &LstmOutputGrads<GpuBuffer>,
        wants: LstmWants,
    ) -> Result<LstmGrads<GpuBuffer>> {
        let (t_all, size) = (spec.steps, Sizes::of(spec));
        let zeros = |len: usize| self.zeros(spec.dtype, len);
        if t_all == 0 || spec.batch == 0 {
            let weights = || Ok((zeros(inputs.weights.ih.len())?, zeros(inputs.weights.hh.len())?));
            let state = |grad: &Option<GpuBuffer>| self.lstm_state(spec, grad.as_ref());
            return Ok(LstmGrads {
                dx: wants.dx.then(|| zeros(0)).transpose()?,
                dh0: wants.states.then(|| state(&grads.dh_n)).transpose()?,
                dc0: wants.states.then(|| state(&grads.dc_n)).transpose()?,
                dweights: wants.weights.then(weights).transpose()?,
                dbias: (wants.weights && spec.bias).then(|| zeros(4 * spec.hidden)).transpose()?,
            });
        }
        let new = |len: usize| self.allocate(spec.dtype, len);
        let dx = wants.dx.then(|| new(inputs.x.len())).transpose()?;
        let dh0 = wants.states.then(|| new(size.state)).transpose()?;
        let dc = match &grads.dc_n {
            Some(dc_n) => self.slice(dc_n, 0, dc_n.len())?,
            None => new(size.state)?,
        };
        let mut sums = if wants.weights { Some(Sums::new(self, spec, inputs)?) } else { None };
        let piece = size.piece(self);
        let mut t1 = t_all;
        while t1 > 0 {
            let t0 = t1.saturating_sub(piece);
            self.lstm_steps_back(spec, inputs, &saved, grads, &dc, t0..t1)?;
            let gates = saved.gates.window(t0 * size.gates, (t1 - t0) * size.gates)?;
            if let Some(dx) = &dx {
                let dx = dx.window(t0 * size.x, (t1 - t0) * size.x)?;
                self.product(&Product {
                    m: (t1 - t0) * spec.batch,
                    n: spec.input,
                    k: 4 * spec.hidden,
                    block: 4 * spec.hidden,
                    a: Matrix { start: gates.1, ..Matrix::new(&gates.0, 4 * spec.hidden, 1) },
                    b: Matrix::new(&inputs.weights.ih, 1, spec.input),
                    c: &dx.0,
                    c_start: dx.1,
                    begin: Begin::Zero,
                })?;
            }
            if let Some(sums) = &mut sums {
                sums.add(self, spec, inputs, &saved, t0..t1)?;
            }
            t1 = t0;
        }
        if let Some(dh0) = &dh0 {
            let gates = saved.gates.window(0, size.gates)?;
            let params = StepBackward {
                rows: spec.batch as u32,
                units: spec.hidden as u32,
                gates_start: 0,
                gates_after: gates.1 as u32,
                c_start: 0,
                c_before: 0,
                y_start: 0,
                flags: 0,
            };
            let kernel = Kernel::new("lstm/step_backward", "initial");
            self.dispatch(&kernel, &[&inputs.weights.hh, &gates.0, dh0], &params, self.lstm_grid(spec))?;
        }
        let (dweights, dbias) = match sums {
            Some(sums) => (Some((sums.ih, sums.hh)), sums.bias.map(|(_, dbias)| dbias)),
            None => (None, None),
        };
        Ok(LstmGrads { dx, dh0, dc0: wants.states.then_some(dc), dweights, dbias })
    }
}

/// Flags of step_backward.wgsl.
mod flag {
    pub const NO_STEP_AFTER: u32 = 1;
    pub const NO_C0: u32 = 2;
    pub const HAS_C0: u32 = 4;
    pub const NO_DY: u32 = 8;
    pub const NO_DC: u32 = 16;
    pub const HAS_DH_N: u32 = 32;
}

impl Gpu<'_> {
    /// h0 and c0 where one of the two is given: the absent one as zeros.
    fn lstm_initial(&self, spec: &LstmSpec, inputs: &LstmInputs<GpuBuffer>) -> Result<Option<(GpuBuffer, GpuBuffer)>> {
        if inputs.h0.is_some() == inputs.c0.is_some() || spec.steps == 0 {
            return Ok(None);
        }
        let given = |state: &Option<GpuBuffer>| match state {
            Some(state) => Ok(state.clone()),
            None => self.zeros(spec.dtype, spec.batch * spec.hidden),
        };
        Ok(Some((given(&inputs.h0)?, given(&inputs.c0)?)))
    }

    /// Steps `span`, from the last to the first: gates become their gradients, dc moves to before the span.
    fn lstm_steps_back(
        &self,
        spec: &LstmSpec,
        inputs: &LstmInputs<GpuBuffer>,
        saved: &LstmSaved<GpuBuffer>,
        grads: &LstmOutputGrads<GpuBuffer>,
        dc: &GpuBuffer,
        span: std::ops::Range<usize>,
    ) -> Result<()> {
        let (t_all, size) = (spec.steps, Sizes::of(spec));
        let (t0, t1) = (span.start, span.end);
        let hh = &inputs.weights.hh;
        let end = t_all.min(t1 + 1);
        let before = t0.min(1);
        let gates = saved.gates.window(t0 * size.gates, (end - t0) * size.gates)?;
        let c = saved.c.window((t0 - before) * size.state, (t1 - t0 + before) * size.state)?;
        let dy = match &grads.dy {
            Some(dy) => dy.window(t0 * size.state, (t1 - t0) * size.state)?,
            None => (hh.clone(), 0),
        };
        at(gates.0.len().max(c.0.len()))?;
        let step = |i: usize| {
            let t = t1 - 1 - i;
            let here = (t - t0 + before) * size.state;
            let flags = [
                (t + 1 == t_all, flag::NO_STEP_AFTER),
                (t == 0 && inputs.c0.is_none(), flag::NO_C0),
                (t == 0 && inputs.c0.is_some(), flag::HAS_C0),
                (grads.dy.is_none(), flag::NO_DY),
                (t + 1 == t_all && grads.dc_n.is_none(), flag::NO_DC),
                (t + 1 == t_all && grads.dh_n.is_some(), flag::HAS_DH_N),
            ];
            StepBackward {
                rows: spec.batch as u32,
                units: spec.hidden as u32,
                gates_start: (gates.1 + (t - t0) * size.gates) as u32,
                gates_after: (gates.1 + (t + 1 - t0) * size.gates) as u32,
                c_start: (c.1 + here) as u32,
                c_before: (c.1 + here.saturating_sub(size.state)) as u32,
                y_start: (dy.1 + (t - t0) * size.state) as u32,
                flags: flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum(),
            }
        };
        let c0 = inputs.c0.as_ref().unwrap_or(hh);
        let dh_n = grads.dh_n.as_ref().unwrap_or(hh);
        let buffers = [hh, &gates.0, &c.0, c0, &dy.0, dh_n, dc];
        let kernel = Kernel::new("lstm/step_backward", "backward");
        self.repeat(&kernel, &buffers, self.lstm_grid(spec), t1 - t0, step)
    }
}

/// Gradients of the parameters while pieces of the sequence, from the last to the first, are added to them.
struct Sums {
    ih: GpuBuffer,
    hh: GpuBuffer,
    /// a 1, and db
    bias: Option<(GpuBuffer, GpuBuffer)>,
    is_begun: bool,
}

impl Sums {
    fn new(gpu: &Gpu, spec: &LstmSpec, inputs: &LstmInputs<GpuBuffer>) -> Result<Sums> {
        let new = |len: usize| gpu.allocate(spec.dtype, len);
        let bias = || Ok((gpu.upload(spec.dtype, bytemuck::bytes_of(&1f32))?, new(4 * spec.hidden)?));
        Ok(Sums {
            ih: new(inputs.weights.ih.len())?,
            hh: new(inputs.weights.hh.len())?,
            bias: spec.bias.then(bias).transpose()?,
            is_begun: false,
        })
    }

    fn add(
        &mut self,
        gpu: &Gpu,
        spec: &LstmSpec,
        inputs: &LstmInputs<GpuBuffer>,
        saved: &LstmSaved<GpuBuffer>,
        span: std::ops::Range<usize>,
    ) -> Result<()> {
        let size = Sizes::of(spec);
        let (t0, t1) = (span.start, span.end);
        let begin = if self.is_begun { Begin::Continue } else { Begin::Zero };
        self.is_begun = true;
        let rows = 4 * spec.hidden;
        let da = saved.gates.window(t0 * size.gates, (t1 - t0) * size.gates)?;
        let da_steps = |steps: usize| descending(&da, steps, spec.batch, rows);

        let x = inputs.x.window(t0 * size.x, (t1 - t0) * size.x)?;
        let all = Product {
            m: rows,
            n: spec.input,
            k: (t1 - t0) * spec.batch,
            block: spec.batch,
            a: da_steps(t1 - t0),
            b: descending(&x, t1 - t0, spec.batch, spec.input),
            c: &self.ih,
            c_start: 0,
            begin,
        };
        gpu.product(&all)?;
        if let Some((one, dbias)) = &self.bias {
            // One row of ones from the left: columns are what lanes lie along.
            let ones = Matrix::new(one, 0, 0);
            gpu.product(&Product { m: 1, n: rows, a: ones, b: all.a, c: dbias, ..all })?;
        }

        // Step t meets h of step t - 1; the first step of the sequence h0.
        let first = t0.max(1);
        let h = saved.h.window((first - 1) * size.state, (t1 - first) * size.state)?;
        let later = saved.gates.window(first.min(t1) * size.gates, (t1 - first) * size.gates)?;
        gpu.product(&Product {
            m: rows,
            n: spec.hidden,
            k: (t1 - first) * spec.batch,
            block: spec.batch,
            a: descending(&later, t1 - first, spec.batch, rows),
            b: descending(&h, t1 - first, spec.batch, spec.hidden),
            c: &self.hh,
            c_start: 0,
            begin,
        })?;
        if let Some(h0) = inputs.h0.as_ref().filter(|_| t0 == 0) {
            let h0 = (h0.clone(), 0);
            gpu.product(&Product {
                m: rows,
                n: spec.hidden,
                k: spec.batch,
                block: spec.batch,
                a: da_steps(1),
                b: descending(&h0, 1, spec.batch, spec.hidden),
                c: &self.hh,
                c_start: 0,
                begin: Begin::Continue,
            })?;
        }
        Ok(())
    }
}
