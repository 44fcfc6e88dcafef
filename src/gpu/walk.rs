//! The host's side of walk.wgsl: strided views of up to six axes, as the uniform of a kernel holds them.

/// Axes that kernels know; what a walk has more is repeated dispatches.
pub const AXES: usize = 6;
/// Sizes of all axes but the first, which a position never needs.
pub type Sizes = [u32; 5];
/// A view's step along each axis.
pub type Steps = [u32; 6];

/// The sizes, of a walk split into `AXES`.
pub fn sizes(shape: &[usize; AXES]) -> Sizes {
    std::array::from_fn(|i| shape[i + 1] as u32)
}

/// Steps of view `view`. They are within a binding; negative ones wrap, as the shader's arithmetic does.
pub fn steps<const N: usize>(strides: &[[isize; N]; AXES], view: usize) -> Steps {
    strides.map(|step| step[view] as u32)
}
