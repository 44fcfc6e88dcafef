//! LSTM on the GPU. Forward: one product for all inputs, then a dispatch a step. Backward: a dispatch a step and
//! one for dh0, then a product each for dx, dW_ih, dW_hh and db. Nothing is read back and nothing waits.
//!
//! Tensors larger than a binding are worked on in pieces of the sequence, through windows; bits do not change.

use super::{Lstm, LstmSaved};
use crate::backend::{Backend, Buffer};
use crate::error::Result;
use crate::gpu::{Begin, Gpu, GpuBuffer, Grid, Kernel, Matrix, Product, Steps, position};
use crate::ops::recurrent::{Above, Kept, Layer, LayerGrads, LayerSpec, Run, Wants, last, state, states};
use crate::tensor::DType;
use std::ops::Range;
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
    fn of(spec: &LayerSpec) -> Sizes {
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
    fn lstm_grid(&self, spec: &LayerSpec) -> Grid {
        let groups = spec.batch.div_ceil(4) as u64 * spec.hidden.div_ceil(64) as u64;
        // a workgroup takes as long where it has fewer sequences or hidden units
        let work = groups.saturating_mul(4 * 64 * 8 * spec.hidden.max(4) as u64);
        Grid::new(groups).trips(spec.hidden as u64 + 1).work(work)
    }

    fn lstm_packed(&self, spec: &LayerSpec, weight_hh: &GpuBuffer) -> Result<Arc<GpuBuffer>> {
        weight_hh.stamp().packed(("lstm step", 0, [4 * spec.hidden, spec.hidden]), || {
            let packed = self.allocate(DType::F32, weight_hh.len())?;
            let units = spec.hidden as u32;
            let params =
                Step { rows: 0, units, gates_start: 0, h_start: 0, c_start: 0, h_before: 0, c_before: 0, first: 0 };
            let grid = Grid::new((spec.hidden as u64 * spec.hidden as u64).div_ceil(64));
            self.dispatch(&Kernel::new("lstm/step", "pack"), &[weight_hh, &packed], &params, grid)?;
            Ok(packed)
        })
    }
}

impl Layer<Gpu<'_>> for Lstm<GpuBuffer> {
    type Saved = LstmSaved<GpuBuffer>;

    fn forward(
        &self,
        gpu: &Gpu<'_>,
        x: &GpuBuffer,
        initial: &[Option<GpuBuffer>],
        save: bool,
    ) -> Result<Run<GpuBuffer, Self::Saved>> {
        let (Lstm { spec, weights }, [h0, c0]) = (self, states(initial));
        let (t_all, size) = (spec.steps, Sizes::of(spec));
        let piece = size.piece(gpu).min(t_all);
        let y = gpu.allocate(spec.dtype, t_all * size.state)?;
        let gates = gpu.allocate(spec.dtype, if save { t_all } else { piece } * size.gates)?;
        let c = gpu.allocate(spec.dtype, if save { t_all } else { 1 } * size.state)?;
        let packed = gpu.lstm_packed(spec, &weights.hh)?;
        let begin = match &weights.bias {
            Some((ih, hh)) => Begin::Biases(ih, hh),
            None => Begin::Zero,
        };
        // where one of the two is given, the absent one is zeros; where none is, what is only read stands in for both
        let has_state = h0.is_some() || c0.is_some();
        let zeros = if has_state && (h0.is_none() || c0.is_none()) && t_all > 0 {
            Some(gpu.zeros(spec.dtype, size.state)?)
        } else {
            None
        };
        let absent = zeros.as_ref().unwrap_or(&packed);

        for t0 in (0..t_all).step_by(piece.max(1)) {
            let steps = piece.min(t_all - t0);
            let own = if save { t0 } else { 0 };
            let x = x.window(t0 * size.x, steps * size.x)?;
            let gates = gates.window(own * size.gates, steps * size.gates)?;
            gpu.product(&Product {
                m: steps * spec.batch,
                n: spec.rows(),
                k: spec.input,
                block: spec.input,
                a: Matrix { start: x.1, ..Matrix::new(&x.0, spec.input, 1) },
                b: Matrix::new(&weights.ih, spec.input, 1),
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
            position("lstm", h.0.len().max(gates.0.len()))?;
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
            let (first_h, first_c) = (h0.unwrap_or(absent), c0.unwrap_or(absent));
            let buffers = [&*packed, first_h, first_c, &gates.0, &h.0, &c.0];
            gpu.repeat(&Kernel::new("lstm/step", "forward"), &buffers, gpu.lstm_grid(spec), steps, step)?;
        }
        let last = vec![last(gpu, spec, &y, h0)?, last(gpu, spec, &c, c0)?];
        let saved = save.then(|| LstmSaved { gates, c, h: y.clone() });
        Ok(Run { y, last, saved })
    }

    fn backward(
        &self,
        gpu: &Gpu<'_>,
        kept: Kept<GpuBuffer, Self::Saved>,
        above: Above<GpuBuffer>,
        wants: Wants,
    ) -> Result<LayerGrads<GpuBuffer>> {
        let (Lstm { spec, weights }, saved) = (self, &kept.own);
        let ([h0, _], [dh_n, dc_n]) = (states(&kept.initial), states(&above.dlast));
        let (t_all, size) = (spec.steps, Sizes::of(spec));
        let zeros = |len: usize| gpu.zeros(spec.dtype, len);
        if t_all == 0 || spec.batch == 0 {
            let given = |grad| wants.states.then(|| state(gpu, spec, grad)).transpose();
            let mut dparameters = Vec::new();
            if wants.weights {
                dparameters.extend([zeros(weights.ih.len())?, zeros(weights.hh.len())?]);
                dparameters.extend(spec.bias.then(|| zeros(spec.rows())).transpose()?);
            }
            let dx = wants.dx.then(|| zeros(0)).transpose()?;
            return Ok(LayerGrads { dx, dinitial: vec![given(dh_n)?, given(dc_n)?], dparameters });
        }
        let new = |len: usize| gpu.allocate(spec.dtype, len);
        let dx = wants.dx.then(|| new(kept.x.len())).transpose()?;
        let dh0 = wants.states.then(|| new(size.state)).transpose()?;
        let dc = match dc_n {
            Some(dc_n) => gpu.slice(dc_n, 0, dc_n.len())?,
            None => new(size.state)?,
        };
        let mut sums = if wants.weights { Some(Sums::new(gpu, self)?) } else { None };
        let piece = size.piece(gpu);
        let mut t1 = t_all;
        while t1 > 0 {
            let t0 = t1.saturating_sub(piece);
            self.steps_back(gpu, &kept, &above, &dc, t0..t1)?;
            let gates = saved.gates.window(t0 * size.gates, (t1 - t0) * size.gates)?;
            if let Some(dx) = &dx {
                let dx = dx.window(t0 * size.x, (t1 - t0) * size.x)?;
                gpu.product(&Product {
                    m: (t1 - t0) * spec.batch,
                    n: spec.input,
                    k: spec.rows(),
                    block: spec.rows(),
                    a: Matrix { start: gates.1, ..Matrix::new(&gates.0, spec.rows(), 1) },
                    b: Matrix::new(&weights.ih, 1, spec.input),
                    c: &dx.0,
                    c_start: dx.1,
                    begin: Begin::Zero,
                })?;
            }
            if let Some(sums) = &mut sums {
                sums.add(gpu, spec, (&kept.x, h0, &saved.h), &saved.gates, t0..t1)?;
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
            gpu.dispatch(&kernel, &[&weights.hh, &gates.0, dh0], &params, gpu.lstm_grid(spec))?;
        }
        let dparameters = sums.map_or(Vec::new(), Sums::done);
        Ok(LayerGrads { dx, dinitial: vec![dh0, wants.states.then_some(dc)], dparameters })
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

impl Lstm<GpuBuffer> {
    /// Steps `span`, from the last to the first: gates become their gradients, dc moves to before the span.
    fn steps_back(
        &self,
        gpu: &Gpu<'_>,
        Kept { initial, own: saved, .. }: &Kept<GpuBuffer, LstmSaved<GpuBuffer>>,
        Above { dy, dlast }: &Above<GpuBuffer>,
        dc: &GpuBuffer,
        span: Range<usize>,
    ) -> Result<()> {
        let (spec, hh) = (&self.spec, &self.weights.hh);
        let ([_, c0], [dh_n, dc_n]) = (states(initial), states(dlast));
        let (t_all, size) = (spec.steps, Sizes::of(spec));
        let (t0, t1) = (span.start, span.end);
        let end = t_all.min(t1 + 1);
        let before = t0.min(1);
        let gates = saved.gates.window(t0 * size.gates, (end - t0) * size.gates)?;
        let c = saved.c.window((t0 - before) * size.state, (t1 - t0 + before) * size.state)?;
        let dy_piece = match dy {
            Some(dy) => dy.window(t0 * size.state, (t1 - t0) * size.state)?,
            None => (hh.clone(), 0),
        };
        position("lstm", gates.0.len().max(c.0.len()))?;
        let step = |i: usize| {
            let t = t1 - 1 - i;
            let here = (t - t0 + before) * size.state;
            let flags = [
                (t + 1 == t_all, flag::NO_STEP_AFTER),
                (t == 0 && c0.is_none(), flag::NO_C0),
                (t == 0 && c0.is_some(), flag::HAS_C0),
                (dy.is_none(), flag::NO_DY),
                (t + 1 == t_all && dc_n.is_none(), flag::NO_DC),
                (t + 1 == t_all && dh_n.is_some(), flag::HAS_DH_N),
            ];
            StepBackward {
                rows: spec.batch as u32,
                units: spec.hidden as u32,
                gates_start: (gates.1 + (t - t0) * size.gates) as u32,
                gates_after: (gates.1 + (t + 1 - t0) * size.gates) as u32,
                c_start: (c.1 + here) as u32,
                c_before: (c.1 + here.saturating_sub(size.state)) as u32,
                y_start: (dy_piece.1 + (t - t0) * size.state) as u32,
                flags: flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum(),
            }
        };
        let buffers = [hh, &gates.0, &c.0, c0.unwrap_or(hh), &dy_piece.0, dh_n.unwrap_or(hh), dc];
        let kernel = Kernel::new("lstm/step_backward", "backward");
        gpu.repeat(&kernel, &buffers, gpu.lstm_grid(spec), t1 - t0, step)
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
    fn new(gpu: &Gpu, Lstm { spec, weights }: &Lstm<GpuBuffer>) -> Result<Sums> {
        let new = |len: usize| gpu.allocate(spec.dtype, len);
        let bias = || Ok((gpu.upload(spec.dtype, bytemuck::bytes_of(&1f32))?, new(spec.rows())?));
        Ok(Sums {
            ih: new(weights.ih.len())?,
            hh: new(weights.hh.len())?,
            bias: spec.bias.then(bias).transpose()?,
            is_begun: false,
        })
    }

    fn add(
        &mut self,
        gpu: &Gpu,
        spec: &LayerSpec,
        (x, h0, y): (&GpuBuffer, Option<&GpuBuffer>, &GpuBuffer),
        da: &GpuBuffer,
        Range { start: t0, end: t1 }: Range<usize>,
    ) -> Result<()> {
        let begin = if self.is_begun { Begin::Continue } else { Begin::Zero };
        self.is_begun = true;
        let da = |first| Steps { buffer: da, first, width: spec.rows() };
        let h = |buffer, first| Steps { buffer, first, width: spec.hidden };
        let x = Steps { buffer: x, first: t0, width: spec.input };
        let all = (t1 - t0, spec.batch);
        gpu.sum_over_rows(da(t0), x, all, &self.ih, begin)?;
        if let Some((one, dbias)) = &self.bias {
            gpu.sum_rows(da(t0), one, all, dbias, begin)?;
        }
        // Step t meets h of step t - 1; the first step of the sequence h0.
        let first = t0.max(1);
        let later = (t1 - first, spec.batch);
        gpu.sum_over_rows(da(first.min(t1)), h(y, first - 1), later, &self.hh, begin)?;
        match h0 {
            Some(h0) if t0 == 0 => gpu.sum_over_rows(da(0), h(h0, 0), (1, spec.batch), &self.hh, Begin::Continue),
            _ => Ok(()),
        }
    }

    /// dW_ih, dW_hh and, with biases, db.
    fn done(self) -> Vec<GpuBuffer> {
        [self.ih, self.hh].into_iter().chain(self.bias.map(|(_, dbias)| dbias)).collect()
    }
}
