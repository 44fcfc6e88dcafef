//! Optimizer steps on the CPU: the reference's loops, for f32 compiled for the instruction set at hand and with
//! subnormals flushed (the moments of parameters that are seldom used decay into them).

use super::reference::{self, Adam, Sgd};
use super::{AdamItem, AdamSpec, Checked, ClipSpec, Optim, PIECE, SgdItem, SgdSpec};
use crate::backend::Buffer;
use crate::cpu::pack::Shared;
use crate::cpu::{Cpu, CpuBuffer, Fresh, Isa, Kernel, Lanes, launch};
use crate::error::{Error, Result};
use crate::tensor::{DType, Real, list};

/// Elements that are worth a team: some 20 µs of one core.
const WORTH_A_TEAM: usize = 1 << 15;

impl Optim for Cpu<'_> {
    fn sgd_step(&self, spec: &SgdSpec, items: &Checked<SgdItem<CpuBuffer>>) -> Result<()> {
        items.iter().flat_map(|item| item.written(spec)).try_for_each(writable)?;
        in_pieces(self, items.iter().map(|item| &item.param), |isa, place| {
            let item = &items[place.tensor];
            let buffer = item.buffer.as_ref().filter(|_| spec.momentum != 0.0);
            // SAFETY: `in_pieces` gives every place once; the tensors are different memory, as `Checked` proves, and
            // nobody else touches them, as the border's gate sees to.
            unsafe {
                match item.param.dtype() {
                    DType::F64 => SgdPiece::<f64>::new(spec, item, buffer, place).plainly(),
                    _ => launch(isa, &SgdPiece::<f32>::new(spec, item, buffer, place)),
                }
            }
        })?;
        items.iter().flat_map(|item| item.written(spec)).for_each(|b| b.stamp().bump());
        Ok(())
    }

    fn adam_step(&self, spec: &AdamSpec, items: &Checked<AdamItem<CpuBuffer>>) -> Result<()> {
        items.iter().flat_map(AdamItem::written).try_for_each(writable)?;
        in_pieces(self, items.iter().map(|item| &item.param), |isa, place| {
            let item = &items[place.tensor];
            // SAFETY: as in `sgd_step`.
            unsafe {
                match item.param.dtype() {
                    DType::F64 => AdamPiece::<f64>::new(spec, item, place).plainly(),
                    _ => launch(isa, &AdamPiece::<f32>::new(spec, item, place)),
                }
            }
        })?;
        items.iter().flat_map(AdamItem::written).for_each(|b| b.stamp().bump());
        Ok(())
    }

    fn clip_grad_norm(&self, spec: &ClipSpec, grads: &[CpuBuffer]) -> Result<CpuBuffer> {
        grads.iter().try_for_each(writable)?;
        let places = places(grads.iter())?;
        let norm = reference::norm(
            |unit| sum_of_squares(self, grads, places.len(), unit),
            || grads.iter().map(largest).fold(0.0, f64::max),
        )?;
        if spec.error_if_nonfinite && !norm.is_finite() {
            return Err(ClipSpec::nonfinite(norm));
        }
        // room for the answer before the first write
        let answer = match spec.dtype {
            DType::F64 => one(norm)?,
            _ => one(norm as f32)?,
        };
        if let Some(coefficient) = spec.coefficient(norm) {
            in_pieces(self, grads.iter(), |isa, place| {
                let grad = &grads[place.tensor];
                // SAFETY: as in `sgd_step`; `grads` has each memory once.
                unsafe {
                    match grad.dtype() {
                        DType::F64 => reference::scale(part_mut::<f64>(grad, place), coefficient),
                        _ => launch(isa, &Scale { at: part_mut(grad, place), coefficient }),
                    }
                }
            })?;
            grads.iter().for_each(|g| g.stamp().bump());
        }
        Ok(answer)
    }
}

fn one<R: Real>(value: R) -> Result<CpuBuffer> {
    let mut one = Fresh::<R>::new(1)?;
    one.fill(value);
    Ok(one.done())
}

/// Memory of NumPy's is never written to; asked of all tensors before the first write.
fn writable(buffer: &CpuBuffer) -> Result<()> {
    if buffer.is_borrowed() {
        return Err(Error::internal("an optimizer's tensor lies in memory that is not ours"));
    }
    Ok(())
}

/// A part of one tensor.
#[derive(Clone, Copy)]
struct Place {
    tensor: usize,
    start: usize,
    len: usize,
}

fn places<'a>(tensors: impl Iterator<Item = &'a CpuBuffer> + Clone) -> Result<Vec<Place>> {
    let mut places = list(tensors.clone().map(|buffer| buffer.len().div_ceil(PIECE)).sum(), "pieces of tensors")?;
    for (tensor, buffer) in tensors.enumerate() {
        let end = buffer.len();
        places.extend((0..end).step_by(PIECE).map(|start| Place { tensor, start, len: PIECE.min(end - start) }));
    }
    Ok(places)
}

/// Does `work` for every piece of the tensors, to the end: nobody is asked whether to stop.
fn in_pieces<'a>(
    cpu: &Cpu<'_>,
    tensors: impl Iterator<Item = &'a CpuBuffer> + Clone,
    work: impl Fn(Isa, Place) + Sync,
) -> Result<()> {
    let (isa, places) = (cpu.isa()?, places(tensors)?);
    let total = places.iter().fold(0usize, |sum, place| sum.saturating_add(place.len));
    let threads = if total > WORTH_A_TEAM { cpu.threads() } else { 1 };
    Cpu::quiet().with_isa(isa).with_threads(threads).run(places.len(), |unit| work(isa, places[unit]))
}

/// # Safety
/// The elements of `place` exist in `buffer`, are of type R, and nobody else reads or writes them meanwhile.
#[allow(clippy::mut_from_ref)]
unsafe fn part_mut<R: Real>(buffer: &CpuBuffer, place: Place) -> &mut [R] {
    // SAFETY: passed on.
    unsafe { std::slice::from_raw_parts_mut(buffer.as_ptr().cast::<R>().add(place.start), place.len) }
}

/// # Safety
/// As `part_mut`, but others may read.
unsafe fn part<R: Real>(buffer: &CpuBuffer, place: Place) -> &[R] {
    // SAFETY: passed on.
    unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<R>().add(place.start), place.len) }
}

struct SgdPiece<'a, R> {
    sgd: Sgd<R>,
    p: *mut [R],
    g: &'a [R],
    buffer: Option<*mut [R]>,
    first: bool,
}

impl<'a, R: Real> SgdPiece<'a, R> {
    /// # Safety
    /// As `part_mut`, for what the item writes to.
    unsafe fn new(
        spec: &SgdSpec,
        item: &'a SgdItem<CpuBuffer>,
        buffer: Option<&CpuBuffer>,
        place: Place,
    ) -> SgdPiece<'a, R> {
        // SAFETY: passed on.
        unsafe {
            SgdPiece {
                sgd: Sgd::new(spec),
                p: part_mut(&item.param, place),
                g: part(&item.grad, place),
                buffer: buffer.map(|b| std::ptr::from_mut(part_mut(b, place))),
                first: item.first,
            }
        }
    }

    /// # Safety
    /// Called once, for memory that nobody else touches.
    #[inline(always)]
    unsafe fn plainly(&self) {
        // SAFETY: from `new`.
        unsafe {
            match self.buffer {
                Some(buffer) => self.sgd.with_momentum(&mut *self.p, self.g, &mut *buffer, self.first),
                None => self.sgd.plain(&mut *self.p, self.g),
            }
        }
    }
}

impl Kernel for SgdPiece<'_, f32> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        // SAFETY: launched once for a piece.
        unsafe { self.plainly() }
    }
}

struct AdamPiece<'a, R> {
    adam: Adam<R>,
    p: *mut [R],
    g: &'a [R],
    mean: *mut [R],
    square: *mut [R],
    largest: Option<*mut [R]>,
}

impl<'a, R: Real> AdamPiece<'a, R> {
    /// # Safety
    /// As `part_mut`, for what the item writes to.
    unsafe fn new(spec: &AdamSpec, item: &'a AdamItem<CpuBuffer>, place: Place) -> AdamPiece<'a, R> {
        // SAFETY: passed on.
        unsafe {
            AdamPiece {
                adam: Adam::new(spec, item.step),
                p: part_mut(&item.param, place),
                g: part(&item.grad, place),
                mean: part_mut(&item.mean, place),
                square: part_mut(&item.square, place),
                largest: item.largest.as_ref().map(|b| std::ptr::from_mut(part_mut(b, place))),
            }
        }
    }

    /// # Safety
    /// Called once, for memory that nobody else touches.
    #[inline(always)]
    unsafe fn plainly(&self) {
        // SAFETY: from `new`.
        unsafe {
            let (p, mean, square) = (&mut *self.p, &mut *self.mean, &mut *self.square);
            match self.largest {
                Some(largest) => self.adam.amsgrad(p, self.g, mean, square, &mut *largest),
                None => self.adam.step(p, self.g, mean, square),
            }
        }
    }
}

impl Kernel for AdamPiece<'_, f32> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        // SAFETY: launched once for a piece.
        unsafe { self.plainly() }
    }
}

struct Scale {
    at: *mut [f32],
    coefficient: f64,
}

impl Kernel for Scale {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        // SAFETY: a piece that nobody else touches.
        reference::scale(unsafe { &mut *self.at }, self.coefficient);
    }
}

struct Squares<'a> {
    g: &'a [f32],
    unit: f64,
    sum: *mut f64,
}

impl Kernel for Squares<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let sum = reference::squares(self.g, self.unit);
        // SAFETY: one number of this unit's own.
        unsafe { *self.sum = sum }
    }
}

/// Of all tensors, in the order that `mod.rs` states.
fn sum_of_squares(cpu: &Cpu<'_>, grads: &[CpuBuffer], pieces: usize, unit: f64) -> Result<f64> {
    let mut sums = Fresh::<f64>::new(pieces)?;
    // SAFETY: each piece writes its own number.
    let out = unsafe { Shared::new(sums.as_mut_ptr()) };
    // where the pieces of each tensor begin
    let mut begins = Vec::with_capacity(grads.len());
    let mut begin = 0;
    for grad in grads {
        begins.push(begin);
        begin += grad.len().div_ceil(PIECE);
    }
    in_pieces(cpu, grads.iter(), |isa, place| {
        let grad = &grads[place.tensor];
        let sum = out.get().wrapping_add(begins[place.tensor] + place.start / PIECE);
        // SAFETY: places lie in their tensors; nobody writes to gradients now; `sum` is this piece's.
        unsafe {
            match grad.dtype() {
                DType::F64 => *sum = reference::squares(part::<f64>(grad, place), unit),
                _ => launch(isa, &Squares { g: part(grad, place), unit, sum }),
            }
        }
    })?;
    let mut total = 0.0;
    for (grad, &begin) in grads.iter().zip(&begins) {
        total += sums[begin..][..grad.len().div_ceil(PIECE)].iter().sum::<f64>();
    }
    Ok(total)
}

fn largest(grad: &CpuBuffer) -> f64 {
    match grad.dtype() {
        DType::F64 => grad.slice::<f64>().map_or(f64::NAN, reference::largest),
        _ => grad.slice::<f32>().map_or(f64::NAN, reference::largest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::optim::SgdSpec;

    // memory that is not ours is found before the first write
    #[test]
    fn all_or_none() {
        let numbers = Box::leak(Box::new([1f32]));
        let start = std::ptr::NonNull::from(numbers).cast();
        // SAFETY: leaked, so it lives for ever.
        let borrowed = unsafe { CpuBuffer::borrowed(start, DType::F32, 1, Box::new(())) };
        let (ours, grad) = (one(1f32).unwrap(), one(1f32).unwrap());
        let item = |param: &CpuBuffer| SgdItem { param: param.clone(), grad: grad.clone(), buffer: None, first: true };
        let spec =
            SgdSpec { lr: 0.1, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, maximize: false };
        let items = Checked::sgd(&spec, vec![item(&ours), item(&borrowed)]).unwrap_or_else(|e| panic!("{e}"));
        assert!(Cpu::quiet().sgd_step(&spec, &items).is_err());
        assert_eq!((ours.slice::<f32>().unwrap()[0], ours.stamp().version()), (1.0, 0));
    }
}
