//! Arithmetic element by element, with NumPy's broadcasting.
//!
//! * one operand: -x, e^x, ln x, √x, |x|, x²
//! * two: a+b, a-b, a·b, a/b, a^b, the greater, the lesser; one of them may be a number
//! * a where the condition holds, else b; and one value everywhere
//!
//! IEEE 754's meaning throughout: ln 0 = -inf, ln and √ of less than 0 are NaN, x/0 is ±inf; a^b as C's `pow`.
//! `maximum` and `minimum` are NaN where either operand is (NumPy's and PyTorch's rule, not C's `fmax`). -x, |x| and
//! the choice by a condition move bits and do nothing else: subnormals and NaN pass through them untouched.

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "python")]
pub mod python;
pub mod reference;

use crate::backend::Backend;
use crate::error::{Error, Of, Result};
use crate::tensor::{DType, Layout, Shape, Walk, broadcast, elements};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// -x
    Neg,
    /// e^x
    Exp,
    /// natural logarithm
    Log,
    /// square root
    Sqrt,
    /// |x|
    Abs,
    /// x·x
    Square,
}

impl Unary {
    /// All, by name.
    pub const ALL: [(&'static str, Unary); 6] = [
        ("neg", Unary::Neg),
        ("exp", Unary::Exp),
        ("log", Unary::Log),
        ("sqrt", Unary::Sqrt),
        ("abs", Unary::Abs),
        ("square", Unary::Square),
    ];

    /// The function of that name.
    pub fn parse(name: &str) -> Result<Unary> {
        named("unary", &Unary::ALL, name)
    }

    /// Its name, also in errors.
    pub fn name(self) -> &'static str {
        name_of(&Unary::ALL, self, "unary")
    }
}

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a · b
    Mul,
    /// a / b
    Div,
    /// a^b
    Pow,
    /// the greater, NaN where either is
    Maximum,
    /// the lesser, NaN where either is
    Minimum,
}

impl Binary {
    /// All, by name.
    pub const ALL: [(&'static str, Binary); 7] = [
        ("add", Binary::Add),
        ("sub", Binary::Sub),
        ("mul", Binary::Mul),
        ("div", Binary::Div),
        ("pow", Binary::Pow),
        ("maximum", Binary::Maximum),
        ("minimum", Binary::Minimum),
    ];

    /// The function of that name.
    pub fn parse(name: &str) -> Result<Binary> {
        named("binary", &Binary::ALL, name)
    }

    /// Its name, also in errors.
    pub fn name(self) -> &'static str {
        name_of(&Binary::ALL, self, "binary")
    }
}

fn named<T: Copy>(op: &str, all: &[(&'static str, T)], name: &str) -> Result<T> {
    all.iter().find(|(n, _)| *n == name).map(|&(_, f)| f).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|&(n, _)| n).collect();
        Error::value(op, "function", format_args!("one of {}", names.join(", ")), format_args!("{name:?}"))
    })
}

fn name_of<T: PartialEq>(all: &[(&'static str, T)], function: T, other: &'static str) -> &'static str {
    all.iter().find(|(_, f)| *f == function).map_or(other, |&(name, _)| name)
}

/// One call of a function of one number, checked.
#[derive(Clone, Copy, Debug)]
pub struct UnarySpec {
    /// which
    pub function: Unary,
    /// element type
    pub dtype: DType,
    /// number of elements, that of a buffer
    pub len: usize,
}

impl UnarySpec {
    /// Checks the type.
    pub fn new(function: Unary, dtype: DType, len: usize) -> Result<UnarySpec> {
        dtype.check_float(function.name(), "x")?;
        Ok(UnarySpec { function, dtype, len })
    }
}

/// One call of a function of two arrays, checked.
#[derive(Clone, Debug)]
pub struct BinarySpec {
    /// which
    pub function: Binary,
    /// element type of both and of the result
    pub dtype: DType,
    /// the result's shape
    pub shape: Shape,
    /// the operands' axes, stepped through together; each steps by 1 or 0 along the last
    pub walk: Walk<2>,
}

impl BinarySpec {
    /// Checks the type, and finds the shape that `a` and `b` (in C order) take together.
    pub fn new(function: Binary, dtype: DType, a: &[usize], b: &[usize]) -> Result<BinarySpec> {
        let name = function.name();
        dtype.check_float(name, "x")?;
        let shape = broadcast(name, "other", a, b)?;
        let [a, b] = [a, b].map(|s| Layout::contiguous(s).broadcast_to(&shape));
        let walk = Walk::new(&shape, [&a.strides, &b.strides]);
        Ok(BinarySpec { function, dtype, shape, walk })
    }

    /// Number of elements of the result.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One call of a function of an array and a number, checked.
#[derive(Clone, Copy, Debug)]
pub struct ScalarSpec {
    /// which
    pub function: Binary,
    /// element type; the number takes it (S-12)
    pub dtype: DType,
    /// number of elements, that of a buffer
    pub len: usize,
    /// the number
    pub value: f64,
    /// whether the number is the first operand
    pub reversed: bool,
}

impl ScalarSpec {
    /// Checks the type.
    pub fn new(function: Binary, dtype: DType, len: usize, value: f64, reversed: bool) -> Result<ScalarSpec> {
        dtype.check_float(function.name(), "x")?;
        Ok(ScalarSpec { function, dtype, len, value, reversed })
    }
}

/// One choice between two arrays, checked.
#[derive(Clone, Debug)]
pub struct WhereSpec {
    /// element type of both and of the result
    pub dtype: DType,
    /// the result's shape
    pub shape: Shape,
    /// axes of condition, a and b, stepped through together; each steps by 1 or 0 along the last
    pub walk: Walk<3>,
}

impl WhereSpec {
    /// Checks the type, and finds the shape that the three (in C order) take together.
    pub fn new(dtype: DType, condition: &[usize], a: &[usize], b: &[usize]) -> Result<WhereSpec> {
        dtype.check_float("where", "x")?;
        let shape = broadcast("where", "condition", &broadcast("where", "b", a, b)?, condition)?;
        let [c, a, b] = [condition, a, b].map(|s| Layout::contiguous(s).broadcast_to(&shape));
        let walk = Walk::new(&shape, [&c.strides, &a.strides, &b.strides]);
        Ok(WhereSpec { dtype, shape, walk })
    }

    /// Number of elements of the result.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One value everywhere, checked.
#[derive(Clone, Copy, Debug)]
pub struct FillSpec {
    /// element type
    pub dtype: DType,
    /// number of elements
    pub len: usize,
    /// the value
    pub value: f64,
}

impl FillSpec {
    /// Checks the size, and that ids are filled with an integer.
    pub fn new(dtype: DType, shape: &[usize], value: f64) -> Result<FillSpec> {
        // 2^53: beyond it f64 skips integers
        if dtype == DType::I64 && !(value.trunc() == value && value.abs() <= 9_007_199_254_740_992.0) {
            return Err(Error::value("fill", "value", "an integer, for int64", value));
        }
        Ok(FillSpec { dtype, len: elements(shape).of("fill")?, value })
    }
}

/// An engine that does arithmetic element by element.
pub trait Elementwise: Backend {
    /// y = f(x)
    fn unary(&self, spec: &UnarySpec, x: &Self::Buffer) -> Result<Self::Buffer>;
    /// y = f(a, b)
    fn binary(&self, spec: &BinarySpec, a: &Self::Buffer, b: &Self::Buffer) -> Result<Self::Buffer>;
    /// y = f(x, value), or f(value, x)
    fn binary_scalar(&self, spec: &ScalarSpec, x: &Self::Buffer) -> Result<Self::Buffer>;
    /// y = a where the condition (in the host's memory, C order) holds, else b
    fn select(&self, spec: &WhereSpec, condition: &[bool], a: &Self::Buffer, b: &Self::Buffer) -> Result<Self::Buffer>;
    /// y = value
    fn fill(&self, spec: &FillSpec) -> Result<Self::Buffer>;
}

#[cfg(all(test, feature = "gpu"))]
mod gpu_tests;
#[cfg(test)]
mod tests;
