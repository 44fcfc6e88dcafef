//! Sums on the CPU: the workshop's tree in vectors for f32, the reference for f64.

use super::reference::{BLOCK, block, tree};
use super::{Reduce, SumSpec};
use crate::cpu::map::PIECE;
use crate::cpu::{Cpu, CpuBuffer, Fresh};
use crate::error::Result;
use crate::tensor::{DType, elements};

/// Blocks of a sum between two polls, as one part of it: a power of two, so that the tree stays the same.
const SUBTREE: usize = 1 << 9;

impl Reduce for Cpu<'_> {
    fn sum(&self, spec: &SumSpec, x: &CpuBuffer) -> Result<CpuBuffer> {
        if spec.dtype == DType::F64 {
            return plain(self, spec, x.slice()?);
        }
        let x = x.slice::<f32>()?;
        let y = match &spec.order {
            None => self.sum_axis(x, spec.outer, spec.n, spec.inner)?,
            Some(order) => self.sum_axis(&self.gather(x, order)?, spec.outer, spec.n, 1)?,
        };
        Ok(y.done())
    }
}

/// The reference's tree for every sum, some of them at a time, and where they are long in whole subtrees.
fn plain(cpu: &Cpu<'_>, spec: &SumSpec, x: &[f64]) -> Result<CpuBuffer> {
    let SumSpec { outer, n, inner, .. } = *spec;
    let ordered = spec.order.as_ref().map(|order| cpu.gather(x, order)).transpose()?;
    let x = ordered.as_deref().unwrap_or(x);
    let blocks = n.div_ceil(BLOCK).max(1);
    let subtrees = blocks.div_ceil(SUBTREE);
    let mut sums = Fresh::<f64>::new(elements(&[outer, inner, subtrees])?)?;
    cpu.pieces(&mut sums, PIECE / n.clamp(1, PIECE), |start, sums| {
        for (at, sum) in (start..).zip(sums) {
            let (y, first) = (at / subtrees, at % subtrees * SUBTREE);
            let (o, i) = (y / inner, y % inner);
            *sum = tree(first, SUBTREE.min(blocks - first), &|b| block(b, n, &|k| x[(o * n + k) * inner + i]));
        }
        Ok(())
    })?;
    if subtrees == 1 {
        return Ok(sums.done());
    }
    let mut y = Fresh::<f64>::new(outer * inner)?;
    cpu.pieces(&mut y, PIECE / subtrees.min(PIECE), |start, y| {
        for (at, y) in (start..).zip(y) {
            *y = tree(at * subtrees, subtrees, &|subtree| sums[subtree]);
        }
        Ok(())
    })?;
    Ok(y.done())
}
