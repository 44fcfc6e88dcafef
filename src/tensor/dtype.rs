//! Element types. `f32` is what kernels compute in; `f64` runs the references; `i64` holds ids.

use crate::error::{Error, Result};
use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float
    F32,
    /// 64-bit float
    F64,
    /// 64-bit signed integer
    I64,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F64 | DType::I64 => 8,
        }
    }

    /// An error of `op`'s `argument` unless these are floats.
    pub fn check_float(self, op: &str, argument: &str) -> Result<()> {
        match self {
            DType::F32 | DType::F64 => Ok(()),
            DType::I64 => Err(Error::dtype(op, argument, "float32 or float64", self)),
        }
    }

    /// NumPy's name.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "float32",
            DType::F64 => "float64",
            DType::I64 => "int64",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type that can be an element: plain bytes, any bit pattern valid.
///
/// # Safety
/// The type has the size of its `DTYPE`, no padding, no invalid bit pattern.
pub unsafe trait Element: Copy + Default + Send + Sync + PartialEq + fmt::Debug + 'static {
    /// its name at run time
    const DTYPE: DType;
}

// SAFETY: primitive numbers of the sizes `DType::size` states.
unsafe impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
// SAFETY: as above.
unsafe impl Element for f64 {
    const DTYPE: DType = DType::F64;
}
// SAFETY: as above.
unsafe impl Element for i64 {
    const DTYPE: DType = DType::I64;
}

/// A real number: what the plain references are generic over.
pub trait Real:
    Element
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// nearest value
    fn of(x: f64) -> Self;
    /// the value as f64, exact
    fn f64(self) -> f64;
    /// e^x
    fn exp(self) -> Self;
    /// natural logarithm
    fn ln(self) -> Self;
    /// square root
    fn sqrt(self) -> Self;
    /// self to the power y
    fn powf(self, y: Self) -> Self;
    /// hyperbolic tangent
    fn tanh(self) -> Self;
    /// not a number
    fn is_nan(self) -> bool;
    /// |x|
    fn abs(self) -> Self;
    /// self * a + b, rounded once
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// 1 / (1 + e^-x), without overflow
    fn sigmoid(self) -> Self {
        let t = (-self.abs()).exp();
        if self < Self::ZERO { t / (Self::ONE + t) } else { Self::ONE / (Self::ONE + t) }
    }
}

/// The sum of sixteen partial sums, joined in halves: l with l + 8, then + 4, + 2, + 1.
#[inline(always)]
pub fn joined<R: Real>(mut parts: [R; 16]) -> R {
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            let upper = parts[l + half];
            parts[l] += upper;
        }
    }
    parts[0]
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                <$t>::ln(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn powf(self, y: Self) -> Self {
                <$t>::powf(self, y)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                <$t>::tanh(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                <$t>::is_nan(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                <$t>::mul_add(self, a, b)
            }
        }
    };
}
real!(f32);
real!(f64);
