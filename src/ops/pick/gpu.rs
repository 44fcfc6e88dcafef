//! Picking by ids on the GPU: f32, and ids (32 bits there). Sums have no atomic additions: the host, which knows the
//! ids, sorts their places by id; each run of at most 256 places is summed by one thread an element, then the runs of
//! each id in order, where an id has very many by 256 once more before. A tensor must fit in a binding.

use super::{Pick, PickSpec};
use crate::backend::{Backend, Buffer};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel, position};
use crate::tensor::{DType, Ids};

/// `Sizes` of pick.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Sizes {
    count: u32,
    front: u32,
    ids: u32,
    bound: u32,
    width: u32,
    one: u32,
    cut: [u32; 2],
}

impl Sizes {
    /// Of a kernel with a thread for each of `count` elements.
    fn of(op: &str, spec: &PickSpec, count: usize) -> Result<Sizes> {
        position(op, spec.whole().max(spec.picked()))?;
        let (ids, bound) = (position(op, spec.ids.len())?, position(op, spec.ids.bound())?);
        let (front, width) = (position(op, spec.front)?, position(op, spec.width)?);
        Ok(Sizes { count: position(op, count)?, front, ids, bound, width, one: 0, cut: [0; 2] })
    }
}

const SHADER: &str = "pick/pick";
/// Places of one segment.
const SEGMENT: usize = 256;
/// Most segments of an id that one thread adds up.
const LONGEST: usize = 1 << 15;

impl Pick for Gpu<'_> {
    fn take(&self, spec: &PickSpec, x: &GpuBuffer) -> Result<GpuBuffer> {
        let y = self.allocate(spec.dtype, spec.picked())?;
        if !y.is_empty() {
            let sizes = Sizes::of("take", spec, spec.picked())?;
            let ids = self.upload(DType::I64, bytemuck::cast_slice(spec.ids.as_slice()))?;
            let grid = Grid::elements(spec.picked());
            self.dispatch(&Kernel::new(SHADER, "take"), &[x, &ids, &y], &sizes, grid)?;
        }
        Ok(y)
    }

    fn put_add(&self, spec: &PickSpec, values: &GpuBuffer) -> Result<GpuBuffer> {
        self.put_add_by(spec, values, LONGEST)
    }

    fn assign_at(&self, spec: &PickSpec, x: &GpuBuffer, values: &GpuBuffer) -> Result<()> {
        if spec.picked() > 0 {
            let one = u32::from(values.len() == 1);
            let sizes = Sizes { one, ..Sizes::of("assign_at", spec, spec.picked())? };
            let ids = self.upload(DType::I64, bytemuck::cast_slice(spec.ids.as_slice()))?;
            // a binding is read or written
            let copy = if values.is_same(x) { Some(self.slice(values, 0, values.len())?) } else { None };
            let values = copy.as_ref().unwrap_or(values);
            let kernel = Kernel::new(SHADER, "assign_at");
            self.quietly()?.dispatch(&kernel, &[values, &ids, x], &sizes, Grid::elements(spec.picked()))?;
        }
        x.stamp().bump();
        Ok(())
    }
}

impl Gpu<'_> {
    /// `put_add` where one thread adds up at most `longest` segments.
    pub(super) fn put_add_by(&self, spec: &PickSpec, values: &GpuBuffer, longest: usize) -> Result<GpuBuffer> {
        let x = self.zeros(spec.dtype, spec.whole())?;
        if values.is_empty() {
            return Ok(x);
        }
        let mut plan = Plan::new(&spec.ids, &|| self.poll())?;
        // elements that an id stands for, in all rows
        let each = spec.front * spec.width;
        let mut sizes = Sizes::of("put_add", spec, 0)?;
        let mut sums = self.sum_segments(&plan, sizes, each, values)?;
        while plan.longest > longest {
            plan = plan.again(&|| self.poll())?;
            // a segment's sums lie side by side, whatever rows they are of
            sizes = Sizes { front: 1, width: position("put_add", each)?, ..sizes };
            sums = self.sum_segments(&plan, sizes, each, &sums)?;
        }
        let rows = self.upload(DType::F32, bytemuck::cast_slice(&plan.rows))?;
        let ids = plan.rows.len() / 2 - 1;
        // as many ids as a binding lists, two words each and two at the end; a window begins at a multiple of 64 words
        let piece = (self.context().largest_window() / 128 * 64).saturating_sub(64).max(64);
        for first in (0..ids).step_by(piece) {
            let ids = piece.min(ids - first);
            let (rows, _) = rows.window(2 * first, 2 * ids + 2)?;
            let grid = Grid::elements(ids * each).trips(plan.longest as u64 + 1).work(work(plan.count(), each));
            let sizes = Sizes::of("put_add", spec, ids * each)?;
            self.dispatch(&Kernel::new(SHADER, "sum_rows"), &[&rows, &sums, &x], &sizes, grid)?;
        }
        Ok(x)
    }

    /// The sum of each segment of `values`.
    fn sum_segments(&self, plan: &Plan, sizes: Sizes, each: usize, values: &GpuBuffer) -> Result<GpuBuffer> {
        let words = |words: &[u32]| self.upload(DType::F32, bytemuck::cast_slice(words));
        let (order, segments) = (words(&plan.order)?, words(&plan.segments)?);
        let count = plan.count() * each;
        let sums = self.allocate(DType::F32, count)?;
        let grid = Grid::elements(count).trips(SEGMENT as u64 + 1).work(work(plan.order.len(), each));
        let sizes = Sizes { count: position("put_add", count)?, ..sizes };
        self.dispatch(&Kernel::new(SHADER, "sum_segments"), &[&order, &segments, values, &sums], &sizes, grid)?;
        Ok(sums)
    }
}

/// Of adding up `n` blocks of `each` elements.
fn work(n: usize, each: usize) -> u64 {
    20 * (n as u64).saturating_mul(each as u64)
}

/// Who sums what: see pick.wgsl.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// the places of the ids that are not skipped, by id
    pub(super) order: Vec<u32>,
    /// where in `order` each segment begins, and where the last ends
    pub(super) segments: Vec<u32>,
    /// of each id that occurs: itself and its first segment; last how many segments there are
    pub(super) rows: Vec<u32>,
    /// segments of the id that has most
    pub(super) longest: usize,
}

impl Plan {
    pub(super) fn new(ids: &Ids, poll: &dyn Fn() -> Result<()>) -> Result<Plan> {
        let (order, values) = (ids.by_id(poll)?, ids.as_slice());
        let ids = order.iter().map(|&place| values[place as usize] as u32);
        let (segments, rows, longest) = segments(ids, poll)?;
        Ok(Plan { order, segments, rows, longest })
    }

    /// The same of the sums of the segments, in their order.
    fn again(&self, poll: &dyn Fn() -> Result<()>) -> Result<Plan> {
        let ids = self.rows.windows(4).step_by(2).flat_map(|row| (row[1]..row[3]).map(|_| row[0]));
        let (segments, rows, longest) = segments(ids, poll)?;
        let mut order = Vec::new();
        reserve(&mut order, self.count())?;
        order.extend(0..self.count() as u32);
        Ok(Plan { order, segments, rows, longest })
    }

    /// How many segments there are.
    fn count(&self) -> usize {
        self.segments.len() - 1
    }
}

/// The segments of sorted ids, the rows of the plan and the most segments of an id.
fn segments(ids: impl Iterator<Item = u32>, poll: &dyn Fn() -> Result<()>) -> Result<(Vec<u32>, Vec<u32>, usize)> {
    let (mut segments, mut rows, mut longest) = (Vec::new(), Vec::new(), 0);
    let (mut before, mut first, mut begin, mut end) = (None, 0, 0, 0);
    for (k, id) in ids.enumerate() {
        end = k + 1;
        if before != Some(id) {
            (before, first) = (Some(id), segments.len());
            reserve(&mut rows, 4)?;
            rows.extend([id, first as u32]);
        } else if k - begin < SEGMENT {
            continue;
        }
        begin = k;
        reserve(&mut segments, 2)?;
        segments.push(k as u32);
        longest = longest.max(segments.len() - first);
        if segments.len() % (1 << 16) == 0 {
            poll()?;
        }
    }
    rows.extend([0, segments.len() as u32]);
    segments.push(end as u32);
    Ok((segments, rows, longest))
}

fn reserve(list: &mut Vec<u32>, more: usize) -> Result<()> {
    list.try_reserve(more).map_err(|_| Error::memory("a plan of sums by id"))
}
