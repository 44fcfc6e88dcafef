//! Moving elements on the GPU: f32, and ids (32 bits there). A tensor must fit in a binding. Kernels know six axes;
//! what a view has more is repeated dispatches.

use super::{CatSpec, Move, StridedSpec};
use crate::backend::{Backend, Buffer};
use crate::error::Result;
use crate::gpu::walk::{AXES, Sizes, Steps, sizes, steps};
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel, position};
use crate::tensor::{Layout, Shape, Walk};

/// `View` of move.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct View {
    count: u32,
    view_start: u32,
    dense_start: u32,
    sizes: Sizes,
    steps: Steps,
    cut: [u32; 2],
}

const SHADER: &str = "shape/move";

impl Gpu<'_> {
    /// Elements between `dense`, from `dense_start` on, and a view of the other buffer.
    fn through_view(
        &self,
        entry: &'static str,
        [from, to]: [&GpuBuffer; 2],
        walk: &Walk<1>,
        offset: usize,
        dense_start: usize,
    ) -> Result<()> {
        let (outer, shape, strides) = walk.split::<AXES>();
        let count: usize = shape.iter().product();
        let outside: usize = outer.shape.iter().product();
        position(entry, offset.max(dense_start.saturating_add(count.saturating_mul(outside))))?;
        let (sizes, steps) = (sizes(&shape), steps(&strides, 0));
        self.repeat(&Kernel::new(SHADER, entry), &[from, to], Grid::walk(count), outside, |i| {
            let [at] = outer.offsets(i);
            let dense_start = (dense_start + i * count) as u32;
            let view_start = (offset as isize + at) as u32;
            View { count: count as u32, view_start, dense_start, sizes, steps, cut: [0; 2] }
        })
    }
}

impl Move for Gpu<'_> {
    fn copy_strided(&self, spec: &StridedSpec, x: &GpuBuffer) -> Result<GpuBuffer> {
        let len = spec.elements();
        let y = self.allocate(spec.dtype, len)?;
        if len > 0 {
            let walk = Walk::new(&spec.view.shape, [&spec.view.strides]);
            self.through_view("copy_strided", [x, &y], &walk, spec.view.offset, 0)?;
        }
        Ok(y)
    }

    fn place_strided(&self, spec: &StridedSpec, values: &GpuBuffer) -> Result<GpuBuffer> {
        let x = self.zeros(spec.dtype, spec.len)?;
        if !values.is_empty() {
            let walk = Walk::new(&spec.view.shape, [&spec.view.strides]);
            self.through_view("place_strided", [values, &x], &walk, spec.view.offset, 0)?;
        }
        Ok(x)
    }

    fn assign_strided(&self, spec: &StridedSpec, x: &GpuBuffer, values: &GpuBuffer, from: &Shape) -> Result<()> {
        let walk = Walk::new(&spec.view.shape, [&spec.view.strides]);
        if spec.elements() > 0 {
            // a dense copy where values are fewer, and where they are the memory that is written
            let from = Layout::contiguous(from).broadcast_to(&spec.view.shape);
            let dense = StridedSpec { dtype: spec.dtype, len: values.len(), view: from };
            let values = self.copy_strided(&dense, values)?;
            self.quietly()?.through_view("place_strided", [&values, x], &walk, spec.view.offset, 0)?;
        }
        x.stamp().bump();
        Ok(())
    }

    fn cat(&self, spec: &CatSpec, parts: &[GpuBuffer]) -> Result<GpuBuffer> {
        if spec.outer == 1 {
            return self.concat(&parts.iter().collect::<Vec<_>>());
        }
        let y = self.allocate(spec.dtype, spec.elements())?;
        let width: usize = spec.widths.iter().sum();
        let mut start = 0;
        for (part, &w) in parts.iter().zip(&spec.widths) {
            if !part.is_empty() {
                let walk = Walk::new(&[spec.outer, w], [&[width as isize, 1]]);
                self.through_view("place_strided", [part, &y], &walk, start, 0)?;
            }
            start += w;
        }
        Ok(y)
    }
}
