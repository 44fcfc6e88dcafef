//! Elementwise arithmetic on the CPU. f32 runs in vectors with subnormals flushed, `pow` in f64 arithmetic;
//! f64 runs the reference. Every element is computed alone, so neither threads nor neighbours change a bit.

use super::{Binary, BinarySpec, Elementwise, FillSpec, ScalarSpec, Unary, UnarySpec, WhereSpec, reference};
use crate::cpu::map::{Function2, PIECE, Rows, map2, map2_plain};
use crate::cpu::math::{self, Function};
use crate::cpu::{Cpu, CpuBuffer, Fresh, Isa, Lanes, pow_all};
use crate::error::Result;
use crate::tensor::{DType, Element, Walk};

impl Elementwise for Cpu<'_> {
    fn unary(&self, spec: &UnarySpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        if spec.dtype == DType::F64 {
            return Ok(self.map_plain(x.slice::<f64>()?, |x| reference::unary(spec.function, x))?.done());
        }
        let x = x.slice::<f32>()?;
        let y = match spec.function {
            Unary::Neg => self.map::<Neg>(x),
            Unary::Exp => self.map::<math::Exp>(x),
            Unary::Log => self.map::<math::Ln>(x),
            Unary::Sqrt => self.map::<Sqrt>(x),
            Unary::Abs => self.map::<Abs>(x),
            Unary::Square => self.map::<Square>(x),
        };
        Ok(y?.done())
    }

    fn binary(&self, spec: &BinarySpec, a: &CpuBuffer, b: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => run_f64(self, spec.function, &spec.walk, spec.len(), a.slice()?, b.slice()?),
            _ => run(self, spec.function, &spec.walk, spec.len(), a.slice()?, b.slice()?),
        }
    }

    fn binary_scalar(&self, spec: &ScalarSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        let walk = Walk::new(&[spec.len], if spec.reversed { [&[0], &[1]] } else { [&[1], &[0]] });
        match (spec.dtype, spec.reversed) {
            (DType::F64, false) => run_f64(self, spec.function, &walk, spec.len, x.slice()?, &[spec.value]),
            (DType::F64, true) => run_f64(self, spec.function, &walk, spec.len, &[spec.value], x.slice()?),
            // the same bits as `pow`, thirty times as fast
            (_, false) if spec.function == Binary::Pow && spec.value == 2.0 => {
                Ok(self.map::<Square>(x.slice()?)?.done())
            }
            (_, false) => run(self, spec.function, &walk, spec.len, x.slice()?, &[spec.value as f32]),
            (_, true) => run(self, spec.function, &walk, spec.len, &[spec.value as f32], x.slice()?),
        }
    }

    fn select(&self, spec: &WhereSpec, condition: &[bool], a: &CpuBuffer, b: &CpuBuffer) -> Result<CpuBuffer> {
        match spec.dtype {
            DType::F64 => select::<f64>(self, spec, condition, a, b),
            _ => select::<f32>(self, spec, condition, a, b),
        }
    }

    fn fill(&self, spec: &FillSpec) -> Result<CpuBuffer> {
        fn filled<T: Element>(cpu: &Cpu<'_>, len: usize, value: T) -> Result<CpuBuffer> {
            let mut y = Fresh::<T>::new(len)?;
            cpu.pieces(&mut y, PIECE, |_, y| {
                y.fill(value);
                Ok(())
            })?;
            Ok(y.done())
        }
        match spec.dtype {
            DType::F32 => filled(self, spec.len, spec.value as f32),
            DType::F64 => filled(self, spec.len, spec.value),
            DType::I64 => filled(self, spec.len, spec.value as i64),
        }
    }
}

type Kernel32 = fn(Isa, Rows<'_, f32>, Rows<'_, f32>, usize, &mut [f32]) -> Result<()>;

/// The kernel of `function` on rows.
fn kernel(function: Binary) -> Kernel32 {
    match function {
        Binary::Add => map2::<Add>,
        Binary::Sub => map2::<Sub>,
        Binary::Mul => map2::<Mul>,
        Binary::Div => map2::<Div>,
        Binary::Maximum => map2::<Maximum>,
        Binary::Minimum => map2::<Minimum>,
        Binary::Pow => pow_rows,
    }
}

fn pow_rows(isa: Isa, a: Rows<'_, f32>, b: Rows<'_, f32>, columns: usize, y: &mut [f32]) -> Result<()> {
    for (i, y) in y.chunks_exact_mut(columns).enumerate() {
        let row = |x: Rows<'_, f32>| i * x.step..i * x.step + if x.one { 1 } else { columns };
        pow_all(isa, &a.data[row(a)], &b.data[row(b)], y)?;
    }
    Ok(())
}

fn run(cpu: &Cpu<'_>, function: Binary, walk: &Walk<2>, len: usize, a: &[f32], b: &[f32]) -> Result<CpuBuffer> {
    let (isa, kernel) = (cpu.isa()?, kernel(function));
    walked(cpu, walk, len, a, b, |a, b, columns, y| kernel(isa, a, b, columns, y))
}

fn run_f64(cpu: &Cpu<'_>, function: Binary, walk: &Walk<2>, len: usize, a: &[f64], b: &[f64]) -> Result<CpuBuffer> {
    let f = |a, b| reference::binary(function, a, b);
    walked(cpu, walk, len, a, b, |a, b, columns, y| map2_plain(a, b, columns, y, f))
}

/// Runs `kernel` over all rows of a broadcast, in pieces.
fn walked<T: Element>(
    cpu: &Cpu<'_>,
    walk: &Walk<2>,
    len: usize,
    a: &[T],
    b: &[T],
    kernel: impl Fn(Rows<'_, T>, Rows<'_, T>, usize, &mut [T]) -> Result<()> + Sync,
) -> Result<CpuBuffer> {
    let mut y = Fresh::<T>::new(len)?;
    if len == 0 {
        return Ok(y.done());
    }
    let (columns, one) = (walk.inner().0, walk.inner().1.map(|step| step == 0));
    if walk.rows() == 1 {
        // one long row: split along it
        cpu.pieces(&mut y, PIECE, |start, y| {
            let a = Rows { data: if one[0] { a } else { &a[start..] }, step: 0, one: one[0] };
            let b = Rows { data: if one[1] { b } else { &b[start..] }, step: 0, one: one[1] };
            kernel(a, b, y.len(), y)
        })?;
    } else {
        let rows = (PIECE / columns).max(1);
        cpu.pieces(&mut y, rows * columns, |start, y| {
            let first = start / columns;
            walk.runs(first, first + y.len() / columns, |row, count, offset, step| {
                let a = Rows { data: &a[offset[0] as usize..], step: step[0] as usize, one: one[0] };
                let b = Rows { data: &b[offset[1] as usize..], step: step[1] as usize, one: one[1] };
                kernel(a, b, columns, &mut y[(row - first) * columns..][..count * columns])
            })
        })?;
    }
    Ok(y.done())
}

fn select<T: Element>(
    cpu: &Cpu<'_>,
    spec: &WhereSpec,
    condition: &[bool],
    a: &CpuBuffer,
    b: &CpuBuffer,
) -> Result<CpuBuffer> {
    let (a, b) = (a.slice::<T>()?, b.slice::<T>()?);
    let mut y = Fresh::<T>::new(spec.len())?;
    if !spec.is_empty() {
        let (columns, [c_step, a_step, b_step]) = spec.walk.inner();
        // from row `first` on, or a part of it
        let work = |first: usize, skip: usize, y: &mut [T]| {
            let columns = columns.min(y.len());
            spec.walk.runs(first, first + y.len() / columns, |row, count, offset, step| {
                for i in 0..count {
                    let skipped = [c_step, a_step, b_step].map(|step| skip as isize * step);
                    let at = |view: usize| (offset[view] + i as isize * step[view] + skipped[view]) as usize;
                    let (c, a, b) = (&condition[at(0)..], &a[at(1)..], &b[at(2)..]);
                    let y = &mut y[(row - first + i) * columns..][..columns];
                    match (c_step, a_step, b_step) {
                        (1, 1, 1) => {
                            let pairs = a.iter().zip(b).zip(c);
                            y.iter_mut().zip(pairs).for_each(|(y, ((&a, &b), &c))| *y = if c { a } else { b });
                        }
                        (1, 1, 0) => y.iter_mut().zip(a.iter().zip(c)).for_each(|(y, (&a, &c))| {
                            *y = if c { a } else { b[0] };
                        }),
                        (1, 0, 1) => y.iter_mut().zip(b.iter().zip(c)).for_each(|(y, (&b, &c))| {
                            *y = if c { a[0] } else { b };
                        }),
                        (1, _, _) => y.iter_mut().zip(c).for_each(|(y, &c)| *y = if c { a[0] } else { b[0] }),
                        _ => {
                            let (x, step) = if c[0] { (a, a_step) } else { (b, b_step) };
                            if step == 1 { y.copy_from_slice(&x[..columns]) } else { y.fill(x[0]) }
                        }
                    }
                }
                Ok(())
            })
        };
        if columns <= PIECE {
            cpu.pieces(&mut y, PIECE / columns * columns, |start, y| work(start / columns, 0, y))?;
        } else {
            for (row, y) in y.chunks_mut(columns).enumerate() {
                cpu.pieces(y, PIECE, |skip, y| work(row, skip, y))?;
            }
        }
    }
    Ok(y.done())
}

macro_rules! functions {
    ($trait:ident: $($name:ident($($x:ident),*) = $body:expr;)*) => {
        $(
            struct $name;
            impl $trait for $name {
                #[inline(always)]
                fn of<L: Lanes>($($x: L),*) -> L {
                    $body
                }
            }
        )*
    };
}

functions! { Function:
    Neg(x) = x.neg();
    Abs(x) = x.abs();
    Sqrt(x) = x.sqrt();
    Square(x) = x.mul(x);
}

functions! { Function2:
    Add(a, b) = a.add(b);
    Sub(a, b) = a.sub(b);
    Mul(a, b) = a.mul(b);
    Div(a, b) = a.div(b);
    Maximum(a, b) = {
        // `max` is b where either is NaN: right unless a is. a is +inf or NaN where it is not below +inf
        let above = L::splat(f32::INFINITY);
        a.select_lt(above, a.max(b), b.select_lt(above, a, a.add(b)))
    };
    Minimum(a, b) = {
        let below = L::splat(f32::NEG_INFINITY);
        below.select_lt(a, a.min(b), below.select_lt(b, a, a.add(b)))
    };
}
