//! Elementwise arithmetic on the GPU, f32 only. A thread is an element, so its bits do not depend on the others.
//! `pow` has integers up to 64 by repeated squaring, else e^(y ln x), off by up to (2 + |y ln x|) 2^-23 of itself:
//! there is no f64 to compute it in.
//!
//! Operands in the order of the result may be larger than a binding (they are worked on in pieces), repeated ones may
//! not. Kernels know six axes; what a walk has more is repeated dispatches.

use super::{Binary, BinarySpec, Elementwise, FillSpec, ScalarSpec, Unary, UnarySpec, WhereSpec};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::gpu::walk::{AXES, Sizes, Steps, sizes, steps};
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel, position};
use crate::tensor::{DType, Walk, list};

/// `One` of arithmetic.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct One {
    count: u32,
    function: u32,
    value: f32,
    reversed: u32,
    cut: [u32; 4],
}

/// `Pair` of arithmetic.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Pair {
    count: u32,
    function: u32,
    a_start: u32,
    b_start: u32,
    y_start: u32,
    sizes: Sizes,
    a_steps: Steps,
    b_steps: Steps,
    first: u32,
    cut: u32,
}

/// `Choice` of arithmetic.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Choice {
    count: u32,
    c_start: u32,
    a_start: u32,
    b_start: u32,
    y_start: u32,
    sizes: Sizes,
    c_steps: Steps,
    a_steps: Steps,
    b_steps: Steps,
    cut: [u32; 4],
}

const SHADER: &str = "elementwise/arithmetic";

/// The number by which the shader knows a function.
fn unary_number(function: Unary) -> u32 {
    match function {
        Unary::Neg => 0,
        Unary::Exp => 1,
        Unary::Log => 2,
        Unary::Sqrt => 3,
        Unary::Abs => 4,
        Unary::Square => 5,
    }
}

fn binary_number(function: Binary) -> u32 {
    match function {
        Binary::Add => 0,
        Binary::Sub => 1,
        Binary::Mul => 2,
        Binary::Div => 3,
        Binary::Pow => 4,
        Binary::Maximum => 5,
        Binary::Minimum => 6,
    }
}

/// Trips of `power`.
const TRIPS: u64 = 9;

impl Gpu<'_> {
    /// A kernel over elements in order: (x, y) or (y).
    fn elements(&self, entry: &'static str, buffers: &[&GpuBuffer], params: One) -> Result<()> {
        self.dispatch_pieces(&Kernel::new(SHADER, entry), buffers, |_, count| {
            (One { count: count as u32, ..params }, Grid::elements(count).trips(TRIPS))
        })
    }
}

impl Elementwise for Gpu<'_> {
    fn unary(&self, spec: &UnarySpec, x: &GpuBuffer) -> Result<GpuBuffer> {
        let y = self.allocate(spec.dtype, spec.len)?;
        let params = One { count: 0, function: unary_number(spec.function), value: 0.0, reversed: 0, cut: [0; 4] };
        self.elements("unary", &[x, &y], params)?;
        Ok(y)
    }

    fn binary(&self, spec: &BinarySpec, a: &GpuBuffer, b: &GpuBuffer) -> Result<GpuBuffer> {
        let len = spec.len();
        let y = self.allocate(spec.dtype, len)?;
        if len == 0 {
            return Ok(y);
        }
        position("binary", len)?;
        let (outer, shape, strides) = spec.walk.split::<AXES>();
        let (sizes, a_steps, b_steps) = (sizes(&shape), steps(&strides, 0), steps(&strides, 1));
        let function = binary_number(spec.function);
        let (kernel, outside) = (Kernel::new(SHADER, "binary"), outer.shape.iter().product::<usize>());
        let params =
            Pair { count: 0, function, a_start: 0, b_start: 0, y_start: 0, sizes, a_steps, b_steps, first: 0, cut: 0 };
        if outside > 1 {
            let count = len / outside;
            self.repeat(&kernel, &[a, b, &y], Grid::walk(count).trips(TRIPS), outside, |i| {
                let [a_start, b_start] = outer.offsets(i).map(|at| at as u32);
                Pair { count: count as u32, a_start, b_start, y_start: (i * count) as u32, ..params }
            })?;
            return Ok(y);
        }
        for (first, count) in self.pieces(len) {
            let (a, a_start) = operand(&spec.walk, 0, a, first, count)?;
            let (b, b_start) = operand(&spec.walk, 1, b, first, count)?;
            let (y, _) = y.window(first, count)?;
            let y_start = (first as u32).wrapping_neg();
            let params = Pair { count: count as u32, a_start, b_start, y_start, first: first as u32, ..params };
            self.dispatch(&kernel, &[&a, &b, &y], &params, Grid::walk(count).trips(TRIPS))?;
        }
        Ok(y)
    }

    fn binary_scalar(&self, spec: &ScalarSpec, x: &GpuBuffer) -> Result<GpuBuffer> {
        let y = self.allocate(spec.dtype, spec.len)?;
        let (function, value) = (binary_number(spec.function), spec.value as f32);
        let params = One { count: 0, function, value, reversed: u32::from(spec.reversed), cut: [0; 4] };
        self.elements("number", &[x, &y], params)?;
        Ok(y)
    }

    fn select(&self, spec: &WhereSpec, condition: &[bool], a: &GpuBuffer, b: &GpuBuffer) -> Result<GpuBuffer> {
        let len = spec.len();
        let y = self.allocate(spec.dtype, len)?;
        if len == 0 {
            return Ok(y);
        }
        position("where", len.max(condition.len()))?;
        let mut words: Vec<u32> = list(condition.len().div_ceil(32), "words of truth values")?;
        let word = |bits: &[bool]| bits.iter().enumerate().fold(0, |word, (i, &bit)| word | u32::from(bit) << i);
        words.extend(condition.chunks(32).map(word));
        let words = self.upload(DType::F32, bytemuck::cast_slice(&words))?;
        let (outer, shape, strides) = spec.walk.split::<AXES>();
        let (sizes, c_steps) = (sizes(&shape), steps(&strides, 0));
        let (a_steps, b_steps) = (steps(&strides, 1), steps(&strides, 2));
        let outside = outer.shape.iter().product::<usize>();
        let count = len / outside;
        self.repeat(
            &Kernel::new(SHADER, "choose"),
            &[&words, a, b, &y],
            Grid::walk(count).trips(TRIPS),
            outside,
            |i| {
                let [c_start, a_start, b_start] = outer.offsets(i).map(|at| at as u32);
                let (count, y_start) = (count as u32, (i * count) as u32);
                Choice { count, c_start, a_start, b_start, y_start, sizes, c_steps, a_steps, b_steps, cut: [0; 4] }
            },
        )?;
        Ok(y)
    }

    fn fill(&self, spec: &FillSpec) -> Result<GpuBuffer> {
        let bits = match spec.dtype {
            DType::I64 => i32::try_from(spec.value as i64)
                .map_err(|_| Error::value("fill", "value", "an id below 2^31, on the GPU", spec.value))?
                .cast_unsigned(),
            _ => (spec.value as f32).to_bits(),
        };
        let y = self.allocate(spec.dtype, spec.len)?;
        self.elements("fill", &[&y], One { count: 0, function: bits, value: 0.0, reversed: 0, cut: [0; 4] })?;
        Ok(y)
    }
}

/// What a kernel binds of an operand for elements `first .. first + count` of the result, and where the operand
/// starts there: a window of it where it lies in the order of the result, else all of it.
fn operand(walk: &Walk<2>, view: usize, buffer: &GpuBuffer, first: usize, count: usize) -> Result<(GpuBuffer, u32)> {
    if walk.is_linear(view) {
        let (window, start) = buffer.window(first, count)?;
        return Ok((window, (start as u32).wrapping_sub(first as u32)));
    }
    Ok((buffer.clone(), 0))
}
