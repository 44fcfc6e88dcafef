//! Embedding on the GPU. The gradient has no atomic additions: the host, which knows the ids, sorts the positions by
//! id; each run of at most 256 is summed by one thread a feature, then the runs of each id in order.

use super::{Embedding, EmbeddingSpec};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel, position};
use crate::tensor::{DType, Ids};

/// `Rows` of rows.wgsl
#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Rows {
    count: u32,
    features: u32,
    segments: u32,
    rows: u32,
    cut: [u32; 4],
}

/// Positions of one segment.
const SEGMENT: usize = 256;

impl Embedding for Gpu<'_> {
    fn embedding(&self, spec: &EmbeddingSpec, weight: &GpuBuffer) -> Result<GpuBuffer> {
        let len = spec.ids.len() * spec.features;
        let y = self.allocate(DType::F32, len)?;
        if len > 0 {
            let ids = self.upload(DType::I64, bytemuck::cast_slice(spec.ids.as_slice()))?;
            let params =
                Rows { count: small(len)?, features: small(spec.features)?, segments: 0, rows: 0, cut: [0; 4] };
            let grid = Grid::new(len.div_ceil(64) as u64).work(20 * len as u64);
            self.dispatch(&Kernel::new("embedding/rows", "forward"), &[&ids, weight, &y], &params, grid)?;
        }
        Ok(y)
    }

    fn embedding_backward(&self, spec: &EmbeddingSpec, dy: &GpuBuffer) -> Result<GpuBuffer> {
        let dw = self.zeros(DType::F32, spec.vocabulary * spec.features)?;
        let plan = Plan::new(&spec.ids)?;
        if plan.rows == 0 || spec.features == 0 {
            return Ok(dw);
        }
        let work = (20 * spec.ids.len() as u64).saturating_mul(spec.features as u64);
        let sums = self.allocate(DType::F32, plan.segments * spec.features)?;
        let table = self.upload(DType::F32, bytemuck::cast_slice(&plan.table))?;
        let params = Rows {
            count: small(plan.segments)?,
            features: small(spec.features)?,
            segments: small(plan.segments_at)?,
            rows: small(plan.rows_at)?,
            cut: [0; 4],
        };
        let across = spec.features.div_ceil(64) as u64;
        let grid = Grid::new(plan.segments as u64 * across).trips(SEGMENT as u64 + 1).work(work);
        self.dispatch(&Kernel::new("embedding/rows", "sum_segments"), &[&table, dy, &sums], &params, grid)?;
        let params = Rows { count: small(plan.rows)?, ..params };
        let grid = Grid::new(plan.rows as u64 * across).trips(plan.longest as u64 + 1).work(work);
        self.dispatch(&Kernel::new("embedding/rows", "sum_rows"), &[&table, &sums, &dw], &params, grid)?;
        Ok(dw)
    }
}

fn small(n: usize) -> Result<u32> {
    position("embedding", n)
}

/// Who sums what: see rows.wgsl.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) table: Vec<u32>,
    pub(super) segments_at: usize,
    pub(super) segments: usize,
    pub(super) rows_at: usize,
    pub(super) rows: usize,
    /// segments of the row that has most
    pub(super) longest: usize,
}

impl Plan {
    pub(super) fn new(ids: &Ids) -> Result<Plan> {
        let mut places = Vec::new();
        places.try_reserve_exact(ids.kept()).map_err(|_| Error::memory("a plan of an embedding's gradient"))?;
        for (position, id) in ids.iter().enumerate() {
            if let Some(id) = id {
                places.push((small(id)?, small(position)?));
            }
        }
        // by id, positions ascending: no two are equal, so no order is left open
        places.sort_unstable();
        let mut table: Vec<u32> = places.iter().map(|&(_, position)| position).collect();
        let segments_at = table.len();
        let (mut rows, mut begin, mut segments, mut longest) = (Vec::new(), 0, 0, 0);
        for run in places.chunk_by(|a, b| a.0 == b.0) {
            let first = segments;
            for start in (0..run.len()).step_by(SEGMENT) {
                table.push(small(begin + start)?);
                segments += 1;
            }
            begin += run.len();
            longest = longest.max(segments - first);
            rows.extend([run[0].0, small(first)?, small(segments)?]);
        }
        table.push(small(begin)?);
        let rows_at = table.len();
        table.extend(&rows);
        Ok(Plan { table, segments_at, segments, rows_at, rows: rows.len() / 3, longest })
    }
}
