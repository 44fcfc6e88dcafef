//! Optimizer steps in plain loops, for f32 and f64: what the kernels are tested against, and what f64 runs. No
//! products are fused, so every instruction set gives the same bits.

use super::{AdamSpec, SgdSpec};
use crate::tensor::{Real, joined};

/// The options of SGD as element arithmetic wants them.
#[derive(Clone, Copy)]
pub struct Sgd<R> {
    /// learning rate
    pub lr: R,
    /// μ
    pub momentum: R,
    /// 1 - dampening
    pub rest: R,
    /// wd
    pub weight_decay: R,
    /// Nesterov's direction
    pub nesterov: bool,
    /// climb
    pub maximize: bool,
}

impl<R: Real> Sgd<R> {
    /// Rounded once each.
    pub fn new(spec: &SgdSpec) -> Sgd<R> {
        Sgd {
            lr: R::of(spec.lr),
            momentum: R::of(spec.momentum),
            rest: R::of(1.0 - spec.dampening),
            weight_decay: R::of(spec.weight_decay),
            nesterov: spec.nesterov,
            maximize: spec.maximize,
        }
    }

    /// g as the step uses it
    #[inline(always)]
    fn gradient(&self, p: R, g: R) -> R {
        let g = if self.maximize { -g } else { g };
        // without decay an infinite p is no business of g's
        if self.weight_decay == R::ZERO { g } else { g + self.weight_decay * p }
    }

    /// A step without momentum.
    #[inline(always)]
    pub fn plain(&self, p: &mut [R], g: &[R]) {
        for (p, &g) in p.iter_mut().zip(g) {
            *p = *p - self.lr * self.gradient(*p, g);
        }
    }

    /// A step with momentum; `first` when the buffer has no value yet.
    #[inline(always)]
    pub fn with_momentum(&self, p: &mut [R], g: &[R], buffer: &mut [R], first: bool) {
        for ((p, &g), b) in p.iter_mut().zip(g).zip(buffer) {
            let g = self.gradient(*p, g);
            *b = if first { g } else { self.momentum * *b + self.rest * g };
            let direction = if self.nesterov { g + self.momentum * *b } else { *b };
            *p = *p - self.lr * direction;
        }
    }
}

/// The options of Adam at one step, as element arithmetic wants them.
#[derive(Clone, Copy)]
pub struct Adam<R> {
    /// lr / (1 - β1ᵗ)
    pub size: R,
    /// 1 - β1
    pub new1: R,
    /// β2
    pub beta2: R,
    /// 1 - β2
    pub new2: R,
    /// √(1 - β2ᵗ)
    pub root: R,
    /// eps
    pub eps: R,
    /// what decay leaves of p when it is decoupled: 1 - lr wd
    pub keep: R,
    /// wd, when it goes through the gradient
    pub weight_decay: R,
    /// climb
    pub maximize: bool,
}

impl<R: Real> Adam<R> {
    /// The numbers of step `t`, in f64, rounded once each.
    pub fn new(spec: &AdamSpec, t: u64) -> Adam<R> {
        let (decoupled, coupled) = if spec.decoupled { (spec.weight_decay, 0.0) } else { (0.0, spec.weight_decay) };
        Adam {
            size: R::of(spec.lr / (1.0 - power(spec.beta1, t))),
            new1: R::of(1.0 - spec.beta1),
            beta2: R::of(spec.beta2),
            new2: R::of(1.0 - spec.beta2),
            root: R::of((1.0 - power(spec.beta2, t)).sqrt()),
            eps: R::of(spec.eps),
            keep: R::of(1.0 - spec.lr * decoupled),
            weight_decay: R::of(coupled),
            maximize: spec.maximize,
        }
    }

    /// One element; gives what goes under the root.
    #[inline(always)]
    fn moments(&self, p: &mut R, g: R, m: &mut R, v: &mut R) -> R {
        let g = if self.maximize { -g } else { g };
        *p = *p * self.keep;
        let g = if self.weight_decay == R::ZERO { g } else { g + self.weight_decay * *p };
        // from the nearer end, as PyTorch's lerp: what was large before does not round a small g away
        let change = g - *m;
        *m = if self.new1 < R::of(0.5) { *m + self.new1 * change } else { g - change * (R::ONE - self.new1) };
        *v = self.beta2 * *v + self.new2 * (g * g);
        *v
    }

    /// A step.
    #[inline(always)]
    pub fn step(&self, p: &mut [R], g: &[R], m: &mut [R], v: &mut [R]) {
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let square = self.moments(p, g, m, v);
            *p = *p - self.size * (*m / (square.sqrt() / self.root + self.eps));
        }
    }

    /// A step of AMSGrad.
    #[inline(always)]
    pub fn amsgrad(&self, p: &mut [R], g: &[R], m: &mut [R], v: &mut [R], largest: &mut [R]) {
        for ((((p, &g), m), v), largest) in p.iter_mut().zip(g).zip(m).zip(v).zip(largest) {
            let square = self.moments(p, g, m, v);
            // a NaN among the squares wins, as in PyTorch's maximum
            *largest = if square <= *largest { *largest } else { square };
            *p = *p - self.size * (*m / (largest.sqrt() / self.root + self.eps));
        }
    }
}

/// x to the power t by squaring: the same bits everywhere, which the system's pow does not promise.
pub fn power(x: f64, t: u64) -> f64 {
    let (mut result, mut square, mut t) = (1.0, x, t);
    while t > 0 {
        if t & 1 == 1 {
            result *= square;
        }
        square *= square;
        t >>= 1;
    }
    result
}

/// The sum of squares of at most [`PIECE`](super::PIECE) elements, each multiplied by `unit` first.
#[inline(always)]
pub fn squares<R: Real>(g: &[R], unit: f64) -> f64 {
    let mut lanes = [0f64; 16];
    let mut chunks = g.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &g) in lanes.iter_mut().zip(chunk) {
            let g = g.f64() * unit;
            *lane += g * g;
        }
    }
    for (lane, &g) in lanes.iter_mut().zip(chunks.remainder()) {
        let g = g.f64() * unit;
        *lane += g * g;
    }
    joined(lanes)
}

/// The largest magnitude; NaN is left out.
pub fn largest<R: Real>(g: &[R]) -> f64 {
    g.iter().fold(0.0, |m: f64, g| m.max(g.f64().abs()))
}

/// g *= coefficient, rounded once.
#[inline(always)]
pub fn scale<R: Real>(g: &mut [R], coefficient: f64) {
    for g in g {
        *g = R::of(g.f64() * coefficient);
    }
}

/// The norm of all together. `pieces` gives the sums of squares after a multiplication by a power of two: squares
/// of f64 leave its range above 1e154 and below 1e-154, and are then taken of numbers near 1.
pub fn norm<E>(mut pieces: impl FnMut(f64) -> Result<f64, E>, largest: impl FnOnce() -> f64) -> Result<f64, E> {
    let sum = pieces(1.0)?;
    if (1e-280..1e280).contains(&sum) || sum.is_nan() {
        return Ok(sum.sqrt());
    }
    let largest = largest();
    if largest == 0.0 || !largest.is_finite() {
        return Ok(largest);
    }
    let exponent = ((largest.to_bits() >> 52) as i32 - 1023).clamp(-1000, 1000);
    let unit = f64::from_bits(((1023 - exponent) as u64) << 52);
    Ok(pieces(unit)?.sqrt() / unit)
}
