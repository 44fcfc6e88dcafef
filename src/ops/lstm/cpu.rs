//! LSTM on the CPU. f32: packed panels (kept with the weights' version), the time loop in `cpu/kernels.rs`,
//! products before and after it; f64: the reference.
//!
//! * Up to 5 rows the inputs are projected before the time loop (a product of many rows runs at the speed of
//!   arithmetic, a step of few rows at the speed of the cache); from 6 rows on both chains run in one tile.

mod kernels;
mod step;

pub use step::LstmStep;

use super::{Lstm, LstmSaved, reference};
use crate::backend::Buffer;
use crate::cpu::gemm::{Segment, Start, accumulate, product, product_joined};
use crate::cpu::pack::{Panels, Shared};
use crate::cpu::tile::PANEL;
use crate::cpu::{Cpu, CpuBuffer, Fresh, TimeLoop, launch};
use crate::error::{Error, Result};
use crate::ops::recurrent::{Above, Kept, Layer, LayerGrads, Run, Wants, Weights, last, states};
use crate::tensor::{DType, Element, Real, elements};
use kernels::{Backward, Bias, Forward};
use std::sync::Arc;

/// Fewer rows than this are projected before the time loop.
const FUSED_ROWS: usize = 6;
/// Elements of the projected chunk of steps: it stays in the second level of cache.
const PROJECTED: usize = 96 << 10;

impl Layer<Cpu<'_>> for Lstm<CpuBuffer> {
    type Saved = LstmSaved<CpuBuffer>;

    fn forward(
        &self,
        cpu: &Cpu<'_>,
        x: &CpuBuffer,
        initial: &[Option<CpuBuffer>],
        save: bool,
    ) -> Result<Run<CpuBuffer, Self::Saved>> {
        if !self.spec.fits(Some(x), self.spec.input, initial) || !self.weights.fit(&self.spec) {
            return Err(Error::internal("lstm: inputs that do not fit their spec"));
        }
        match self.spec.dtype {
            DType::F64 => forward_plain::<f64>(cpu, self, x, states(initial), save),
            _ => forward(cpu, self, x, states(initial), save),
        }
    }

    fn backward(
        &self,
        cpu: &Cpu<'_>,
        kept: Kept<CpuBuffer, Self::Saved>,
        above: Above<CpuBuffer>,
        wants: Wants,
    ) -> Result<LayerGrads<CpuBuffer>> {
        let (spec, LstmSaved { gates, c, h }) = (&self.spec, &kept.own);
        let given = spec.fits(Some(&kept.x), spec.input, &kept.initial)
            && spec.fits(above.dy.as_ref(), spec.hidden, &above.dlast)
            && [c, h].into_iter().all(|s| spec.fits(Some(s), spec.hidden, &[]))
            && spec.fits(Some(gates), spec.rows(), &[]);
        if !given || !self.weights.fit(spec) {
            return Err(Error::internal("lstm: inputs that do not fit their spec"));
        }
        match spec.dtype {
            DType::F64 => backward_plain::<f64>(cpu, self, kept, above, wants),
            _ => backward(cpu, self, kept, above, wants),
        }
    }
}

/// W_ih or W_hh for forward: panels of N units of all gates.
fn forward_image(cpu: &Cpu<'_>, weights: &CpuBuffer, hidden: usize, width: usize) -> Result<Arc<Panels>> {
    let pack = || Panels::gates(cpu, weights.slice()?, hidden, width);
    Panels::kept(cpu, weights, "lstm forward", [4 * hidden, width], pack)
}

/// W_ih or W_hh for backward: its columns are the outputs.
fn backward_image(cpu: &Cpu<'_>, weights: &CpuBuffer, hidden: usize, width: usize) -> Result<Arc<Panels>> {
    let pack = || Panels::straight(cpu, weights.slice()?, 4 * hidden, width);
    Panels::kept(cpu, weights, "lstm backward", [4 * hidden, width], pack)
}

/// b_ih + b_hh in the order of the forward panels, zeros without.
fn bias_image(cpu: &Cpu<'_>, weights: &Weights<CpuBuffer>, hidden: usize, panels: usize) -> Result<Fresh<f32>> {
    let isa = cpu.isa()?;
    let mut image = cpu.cleared(panels * PANEL * isa.lanes())?;
    if let Some((ih, hh)) = &weights.bias {
        let (ih, hh) = (ih.slice::<f32>()?, hh.slice::<f32>()?);
        if ih.len() != 4 * hidden || hh.len() != 4 * hidden {
            return Err(Error::internal("lstm: biases that do not fit their spec"));
        }
        // a kernel, so that the caller's floating-point mode does not reach the sum
        let kernel = Bias { ih: ih.as_ptr(), hh: hh.as_ptr(), hidden, to: image.as_mut_ptr() };
        // SAFETY: the lengths were checked, the image has whole panels.
        unsafe { launch(isa, &kernel) };
    }
    Ok(image)
}

fn forward(
    cpu: &Cpu<'_>,
    Lstm { spec, weights }: &Lstm<CpuBuffer>,
    x: &CpuBuffer,
    [h0, c0]: [Option<&CpuBuffer>; 2],
    save: bool,
) -> Result<Run<CpuBuffer, LstmSaved<CpuBuffer>>> {
    let isa = cpu.isa()?;
    let (steps, batch, input, hidden) = (spec.steps, spec.batch, spec.input, spec.hidden);
    let state_size = elements(&spec.state())?;
    let (start_h, start_c) = (cpu.copy_or_zeros(h0, state_size)?, cpu.copy_or_zeros(c0, state_size)?);
    let mut y = Fresh::<f32>::new(elements(&spec.y())?)?;
    let mut c = Fresh::<f32>::new(if save { y.len() } else { state_size })?;
    let mut gates = if save { Some(Fresh::<f32>::new(elements(&spec.by_gate())?)?) } else { None };
    if !y.is_empty() {
        let ih = forward_image(cpu, &weights.ih, hidden, input)?;
        let hh = forward_image(cpu, &weights.hh, hidden, hidden)?;
        let panels = hh.count();
        let bias = bias_image(cpu, weights, hidden, panels)?;
        let x = x.slice::<f32>()?;
        let project = batch < FUSED_ROWS;
        let chunk = if project { (PROJECTED / (batch * hh.outputs())).clamp(1, steps) } else { steps };
        let mut projected = Fresh::<f32>::new(if project { chunk * batch * hh.outputs() } else { 0 })?;
        let mut kernel = Forward {
            steps: (0, 0),
            turn: 0,
            rows: (0, 0),
            panels: (0, 0),
            batch,
            input,
            hidden,
            x: x.as_ptr(),
            projected: std::ptr::null(),
            projected_from: 0,
            ih: ih.as_ptr(),
            hh: hh.as_ptr(),
            bias: bias.as_ptr(),
            all_panels: panels,
            h0: start_h.as_ptr(),
            c0: start_c.as_ptr(),
            y: y.as_mut_ptr(),
            c: c.as_mut_ptr(),
            c_step: if save { state_size } else { 0 },
            gates: gates.as_mut().map_or(std::ptr::null_mut(), |gates| gates.as_mut_ptr()),
        };
        let terms = if project { hidden } else { input + hidden };
        let step = 8 * batch * hidden * terms;
        let time = TimeLoop::new(cpu, (batch, panels), spec.flops(), step, 16 * hidden * terms);
        for first in (0..steps).step_by(chunk) {
            let end = steps.min(first + chunk);
            if project {
                let rows = (end - first) * batch;
                let x = &x[first * batch * input..][..rows * input];
                product(cpu, x, rows, &ih, Start::Row(&bias), &mut projected[..rows * hh.outputs()])?;
                kernel.projected = projected.as_ptr();
                kernel.projected_from = first;
            }
            // SAFETY: units write disjoint rows or panels of a step, and read what earlier phases wrote.
            let kernel = unsafe { Shared::new(kernel) };
            time.run(cpu, end - first, |steps, rows, panels| {
                let steps = (first + steps.0, first + steps.1);
                let kernel = Forward { steps, rows, panels, ..kernel.get() };
                // SAFETY: `fit` checked the inputs' sizes, the outputs were made above.
                unsafe { launch(isa, &kernel) }
            })?;
        }
    }
    let (y, c) = (y.done(), c.done());
    let last = vec![last(cpu, spec, &y, h0)?, last(cpu, spec, &c, c0)?];
    let saved = gates.map(|gates| LstmSaved { gates: gates.done(), c, h: y.clone() });
    Ok(Run { y, last, saved })
}

fn backward(
    cpu: &Cpu<'_>,
    Lstm { spec, weights }: &Lstm<CpuBuffer>,
    Kept { x, initial, own: saved }: Kept<CpuBuffer, LstmSaved<CpuBuffer>>,
    Above { dy, dlast }: Above<CpuBuffer>,
    wants: Wants,
) -> Result<LayerGrads<CpuBuffer>> {
    let ([h0, c0], [dh_n, dc_n]) = (states(&initial), states(&dlast));
    let isa = cpu.isa()?;
    let (steps, batch, input, hidden) = (spec.steps, spec.batch, spec.input, spec.hidden);
    let state_size = elements(&spec.state())?;
    let mut dc = cpu.copy_or_zeros(dc_n, state_size)?;
    let c0 = cpu.copy_or_zeros(c0, state_size)?;
    let hh = backward_image(cpu, &weights.hh, hidden, hidden)?;
    // SAFETY: `saved` was given to this call to overwrite; nobody else has its gates.
    let da = unsafe { saved.gates.slice_mut::<f32>()? };
    let h = saved.h.slice::<f32>()?;
    if !h.is_empty() {
        let kernel = Backward {
            steps: (0, 0),
            all_steps: steps,
            rows: (0, 0),
            panels: (0, 0),
            batch,
            hidden,
            hh: hh.as_ptr(),
            c: saved.c.slice::<f32>()?.as_ptr(),
            c0: c0.as_ptr(),
            dy: pointer(dy.as_ref())?,
            dh: pointer(dh_n)?,
            dc: dc.as_mut_ptr(),
            gates: da.as_mut_ptr(),
        };
        let (step, panels) = (8 * batch * hidden * hidden, hh.count());
        // SAFETY: units write disjoint rows or panels of a step, and read what earlier phases wrote.
        let kernel = unsafe { Shared::new(kernel) };
        let time = TimeLoop::new(cpu, (batch, panels), spec.flops(), step, 16 * hidden * hidden);
        time.run(cpu, steps, |done, rows, panels| {
            let kernel = Backward { steps: (steps - done.1, steps - done.0), rows, panels, ..kernel.get() };
            // SAFETY: sizes were checked on entry.
            unsafe { launch(isa, &kernel) }
        })?;
    }
    let da = &*da;
    let mut grads = LayerGrads { dx: None, dinitial: vec![None, None], dparameters: vec![] };
    if wants.states {
        let mut dh0 = cpu.copy_or_zeros(dh_n, state_size)?;
        if steps > 0 {
            product_joined(cpu, &da[..4 * state_size], batch, &hh, 4, &mut dh0)?;
        }
        grads.dinitial = vec![Some(dh0.done()), Some(dc.done())];
    }
    let x = x.slice::<f32>()?;
    if wants.dx {
        let ih = backward_image(cpu, &weights.ih, hidden, input)?;
        let mut dx = Fresh::<f32>::new(x.len())?;
        product_joined(cpu, da, steps * batch, &ih, 4, &mut dx)?;
        grads.dx = Some(dx.done());
    }
    if wants.weights {
        let mut ih = Fresh::<f32>::new(elements(&spec.weight_ih())?)?;
        let mut hh = Fresh::<f32>::new(elements(&spec.weight_hh())?)?;
        let mut db = if spec.bias { Some(Fresh::<f32>::new(4 * hidden)?) } else { None };
        let whole = [Segment { dy: da, x, steps, batch }];
        accumulate(cpu, &whole, (4 * hidden, input), true, &mut ih, db.as_deref_mut())?;
        let h0 = cpu.copy_or_zeros(h0, state_size)?;
        let parts = Segment::one_earlier(da, h, &h0, (steps, batch));
        accumulate(cpu, &parts, (4 * hidden, hidden), true, &mut hh, None)?;
        grads.dparameters = [ih.done(), hh.done()].into_iter().chain(db.map(Fresh::done)).collect();
    }
    Ok(grads)
}

fn pointer(given: Option<&CpuBuffer>) -> Result<*const f32> {
    given.map_or(Ok(std::ptr::null()), |buffer| Ok(buffer.slice::<f32>()?.as_ptr()))
}

fn parameters<T: Element>(weights: &Weights<CpuBuffer>) -> Result<reference::Parameters<'_, T>> {
    let bias = match &weights.bias {
        Some((ih, hh)) => Some((ih.slice()?, hh.slice()?)),
        None => None,
    };
    Ok(reference::Parameters { ih: weights.ih.slice()?, hh: weights.hh.slice()?, bias })
}

fn forward_plain<T: Real>(
    cpu: &Cpu<'_>,
    Lstm { spec, weights }: &Lstm<CpuBuffer>,
    x: &CpuBuffer,
    [h0, c0]: [Option<&CpuBuffer>; 2],
    save: bool,
) -> Result<Run<CpuBuffer, LstmSaved<CpuBuffer>>> {
    let (size, state_size) = (elements(&spec.y())?, elements(&spec.state())?);
    let (start_h, start_c) = (cpu.copy_or_zeros(h0, state_size)?, cpu.copy_or_zeros(c0, state_size)?);
    let (mut y, mut c, mut gates) = (Fresh::<T>::new(size)?, Fresh::<T>::new(size)?, Fresh::<T>::new(4 * size)?);
    let out = (&mut *y, &mut *c, &mut *gates);
    let w = parameters(weights)?;
    reference::forward(spec, x.slice()?, (&start_h, &start_c), w, out, &cpu.paced())?;
    let (y, c) = (y.done(), c.done());
    let last = vec![last(cpu, spec, &y, h0)?, last(cpu, spec, &c, c0)?];
    let saved = save.then(|| LstmSaved { gates: gates.done(), c, h: y.clone() });
    Ok(Run { y, last, saved })
}

fn backward_plain<T: Real>(
    cpu: &Cpu<'_>,
    Lstm { spec, weights }: &Lstm<CpuBuffer>,
    Kept { x, initial, own: saved }: Kept<CpuBuffer, LstmSaved<CpuBuffer>>,
    Above { dy, dlast }: Above<CpuBuffer>,
    wants: Wants,
) -> Result<LayerGrads<CpuBuffer>> {
    let ([h0, c0], [dh_n, dc_n]) = (states(&initial), states(&dlast));
    let size = elements(&spec.state())?;
    let (h0, c0) = (cpu.copy_or_zeros(h0, size)?, cpu.copy_or_zeros(c0, size)?);
    let (mut dh, mut dc) = (cpu.copy_or_zeros(dh_n, size)?, cpu.copy_or_zeros(dc_n, size)?);
    let fresh = |wanted: bool, n: usize| wanted.then(|| Fresh::<T>::new(n)).transpose();
    let mut dx = fresh(wants.dx, x.len())?;
    let mut ih = fresh(wants.weights, weights.ih.len())?;
    let mut hh = fresh(wants.weights, weights.hh.len())?;
    let mut db = fresh(wants.weights && spec.bias, 4 * spec.hidden)?;
    let given = reference::Context {
        x: x.slice()?,
        state: (&*h0, &*c0),
        h: saved.h.slice()?,
        c: saved.c.slice()?,
        dy: dy.as_ref().map(|dy| dy.slice()).transpose()?,
    };
    let out = reference::Gradients {
        dx: dx.as_deref_mut(),
        dweights: ih.as_deref_mut().zip(hh.as_deref_mut()),
        dbias: db.as_deref_mut(),
    };
    // SAFETY: `saved` was given to this call to overwrite; nobody else has its gates.
    let gates = unsafe { saved.gates.slice_mut::<T>()? };
    let w = parameters(weights)?;
    reference::backward(spec, &given, w, gates, (&mut dh, &mut dc), out, &cpu.paced())?;
    let states = [dh, dc].map(|d| wants.states.then(|| d.done()));
    Ok(LayerGrads {
        dx: dx.map(Fresh::done),
        dinitial: states.into(),
        dparameters: [ih, hh, db].into_iter().flatten().map(Fresh::done).collect(),
    })
}
