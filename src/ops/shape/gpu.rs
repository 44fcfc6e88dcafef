//! Moving elements on the GPU: f32, and ids (32 bits there). A tensor must fit in a binding. Kernels know six axes;
//! what a view has more is repeated dispatches.

use super::{CatSpec, IdsSpec, Move, StridedSpec};
use crate::backend::{Backend, Buffer};
use crate::error::Result;
use crate::gpu::walk::{AXES, Sizes, Steps, sizes, steps};
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel, position};
use crate::tensor::{DType, Layout, Shape, Walk};

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

/// `Ids` of move.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Ids {
    count: u32,
    ids: u32,
    width: u32,
    distinct: u32,
    first: u32,
    most: u32,
    cut: [u32; 2],
}

impl Ids {
    /// The sizes of a row, the rest 0.
    fn of(spec: &IdsSpec) -> Ids {
        let (ids, width) = (spec.ids.len() as u32, spec.ids.bound() as u32);
        Ids { count: 0, ids, width, distinct: 0, first: 0, most: 0, cut: [0; 2] }
    }
}

const SHADER: &str = "shape/move";
/// Values of one id that one dispatch adds, each a loop trip.
const MOST: usize = 32_768;

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

    fn take(&self, spec: &IdsSpec, x: &GpuBuffer) -> Result<GpuBuffer> {
        let y = self.allocate(spec.dtype, spec.picked())?;
        if y.is_empty() {
            return Ok(y);
        }
        let (count, _) = (position("take", spec.picked())?, position("take", spec.whole())?);
        let ids = self.upload(DType::I64, bytemuck::cast_slice(spec.ids.as_slice()))?;
        let params = Ids { count, ..Ids::of(spec) };
        self.dispatch(&Kernel::new(SHADER, "take"), &[x, &ids, &y], &params, Grid::elements(spec.picked()))?;
        Ok(y)
    }

    fn put_add(&self, spec: &IdsSpec, values: &GpuBuffer) -> Result<GpuBuffer> {
        let x = self.zeros(spec.dtype, spec.whole())?;
        if values.is_empty() {
            return Ok(x);
        }
        position("put_add", spec.picked().max(spec.whole()))?;
        let ids = spec.ids.as_slice();
        // a stable sort: the values of an id keep their order
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|&i| ids[i as usize]);
        let mut begins: Vec<u32> = Vec::new();
        let (mut most, mut begin) = (0, 0);
        for k in 0..=order.len() {
            let id = |k: usize| order.get(k).map(|&i| ids[i as usize]);
            if k == 0 || id(k) != id(k - 1) {
                most = most.max(k - begin);
                begin = k;
                begins.extend([id(k).unwrap_or(0) as u32, k as u32]);
            }
        }
        let count = begins.len() / 2 - 1;
        let begins = self.upload(DType::F32, bytemuck::cast_slice(&begins))?;
        let order = self.upload(DType::F32, bytemuck::cast_slice(&order))?;
        let kernel = Kernel::new(SHADER, "put_add");
        // ids that a binding holds, two words each and two at the end; a window begins at a multiple of 64 words
        let piece = (self.context().largest_window() / 128 * 64).saturating_sub(64).max(64);
        for first in (0..count).step_by(piece) {
            let distinct = piece.min(count - first);
            let (begins, _) = begins.window(2 * first, 2 * distinct + 2)?;
            let work = 20 * (spec.rows * spec.ids.len().min(distinct.saturating_mul(MOST))) as u64;
            let grid = Grid::elements(spec.rows * distinct).trips(most.min(MOST) as u64 + 1).work(work);
            self.repeat(&kernel, &[values, &begins, &order, &x], grid, most.div_ceil(MOST), |i| Ids {
                count: (spec.rows * distinct) as u32,
                distinct: distinct as u32,
                first: (i * MOST) as u32,
                most: MOST as u32,
                ..Ids::of(spec)
            })?;
        }
        Ok(x)
    }
}
