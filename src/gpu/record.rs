//! Recording and submitting. One compute pass stays open over many dispatches, and one submission carries some
//! 50 ms of estimated work: a pass of its own costs as much as ten dispatches, a submission as much as a
//! hundred. Parameters are 256-byte records of one uniform buffer, written whole before each submission;
//! dispatches differ only in the offset at which the record is bound.

use crate::backend::Buffer;
use crate::error::{Error, Result};
use crate::gpu::buffer::GpuBuffer;
use crate::gpu::context::{Context, ROOM_TO_WORK};
use crate::gpu::counters::Counters;
use crate::gpu::guard::without_report;
use crate::gpu::pipeline::{Kernel, Pipeline, Pipelines};
use crate::gpu::shaders::Access;
use crate::gpu::{Gpu, Grid};
use bytemuck::{NoUninit, bytes_of};
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Distance of parameter records: the largest alignment that a device may ask for.
const RECORD: usize = 256;
/// Records in one submission.
const RECORDS: usize = 4096;
/// Submissions that may be under way: bounds memory, and the wait after Ctrl-C.
const IN_FLIGHT: usize = 2;
/// Most loop trips of one invocation. lavapipe stops all loops, silently, after 65,535.
const TRIPS: u64 = 60_000;
/// Workgroups along one dimension.
const GROUPS: u64 = 65_535;
/// Host data that may wait for the next submission.
const WRITTEN: u64 = 64 << 20;

type Bound<'b> = wgpu::BufferBinding<'b>;

/// Something handed to the queue.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) number: u64,
    pub(super) index: wgpu::SubmissionIndex,
}

/// What is recorded and not yet submitted, and what is submitted and not yet known to be done.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// before `encoder`: a pass must end first
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    uniforms: Option<wgpu::Buffer>,
    records: Vec<u8>,
    work: u64,
    written: u64,
    in_flight: VecDeque<Submission>,
    pipelines: Pipelines,
}

impl Recorder {
    /// Whether what is recorded is a submission of its own, and does not wait for so much more work.
    fn is_due(&self, context: &Context, more: u64) -> bool {
        let limit = context.limits.work;
        self.work >= limit
            || self.work > 0 && self.work.saturating_add(more) > limit
            || self.records.len() >= RECORDS * RECORD
            || self.written >= WRITTEN
    }

    /// Adds a record of parameters; where it is.
    fn push(&mut self, params: &[u8]) -> u32 {
        let offset = self.records.len();
        self.records.extend_from_slice(params);
        self.records.resize(offset + RECORD, 0);
        // At most RECORDS * RECORD: `is_due` comes before.
        offset as u32
    }

    /// Submissions up to `number` are done.
    pub(super) fn forget(&mut self, number: u64) {
        self.in_flight.retain(|other| other.number > number);
    }

    /// The encoder with no pass open, for copies.
    pub(super) fn encoder(&mut self, context: &Context) -> Result<&mut wgpu::CommandEncoder> {
        if let Some(pass) = self.pass.take() {
            without_report(move || drop(pass)).map_err(Error::internal)?;
        }
        if self.encoder.is_none() {
            let wanted = wgpu::CommandEncoderDescriptor { label: None };
            self.encoder = Some(context.guarded("recording", || context.device.create_command_encoder(&wanted))?);
        }
        self.encoder.as_mut().ok_or_else(|| Error::internal("no encoder"))
    }

    fn pass(&mut self, context: &Context) -> Result<&mut wgpu::ComputePass<'static>> {
        if self.pass.is_none() {
            let wanted = wgpu::ComputePassDescriptor { label: None, timestamp_writes: None };
            self.pass = Some(self.encoder(context)?.begin_compute_pass(&wanted).forget_lifetime());
        }
        self.pass.as_mut().ok_or_else(|| Error::internal("no pass"))
    }
}

impl Context {
    /// Submits what is recorded; its place in the queue, if there was anything.
    pub(super) fn submit(&self, recorder: &mut Recorder) -> Result<Option<Submission>> {
        // Everything is taken first, so that the recorder is empty and whole if this fails.
        let pass = recorder.pass.take();
        let encoder = recorder.encoder.take();
        let records = std::mem::take(&mut recorder.records);
        let written = std::mem::take(&mut recorder.written);
        recorder.work = 0;
        if encoder.is_none() && written == 0 {
            return Ok(None);
        }
        Counters::add(&self.counters.submits, 1);
        let uniforms = recorder.uniforms.as_ref();
        let index = self.guarded("submitting", || {
            drop(pass);
            if let Some(uniforms) = uniforms.filter(|_| !records.is_empty()) {
                self.queue.write_buffer(uniforms, 0, &records);
            }
            let commands = encoder.map(wgpu::CommandEncoder::finish);
            self.gate.beside(|| self.queue.submit(commands))
        });
        // Also after a failure: what was recorded will not run any more.
        let number = self.submissions.fetch_add(1, Ordering::AcqRel);
        let submission = Submission { number, index: index? };
        recorder.in_flight.push_back(submission.clone());
        recorder.records = records;
        recorder.records.clear();
        Ok(Some(submission))
    }

    /// Counts host data that waits for a submission.
    pub(super) fn wrote(&self, bytes: u64) -> Result<()> {
        let mut recorder = self.recorder();
        recorder.written += bytes;
        if recorder.is_due(self, 0) {
            self.submit(&mut recorder)?;
        }
        Ok(())
    }

    fn bind(&self, recorder: &mut Recorder, pipeline: &Pipeline, blocks: &[Bound]) -> Result<wgpu::BindGroup> {
        if recorder.uniforms.is_none() {
            let wanted = wgpu::BufferDescriptor {
                label: Some("parameters"),
                size: (RECORDS * RECORD) as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            };
            recorder.uniforms = Some(self.guarded("allocating", || self.device.create_buffer(&wanted))?);
        }
        let uniforms = recorder.uniforms.as_ref().ok_or_else(|| Error::internal("no parameters"))?;
        let mut storage = blocks.iter();
        let mut entries = Vec::with_capacity(pipeline.entry.bindings.len());
        for binding in &pipeline.entry.bindings {
            let bound = if binding.access == Access::Uniform {
                Bound { buffer: uniforms, offset: 0, size: NonZeroU64::new(u64::from(binding.size)) }
            } else {
                storage.next().cloned().ok_or_else(|| Error::internal("too few buffers"))?
            };
            entries
                .push(wgpu::BindGroupEntry { binding: binding.number, resource: wgpu::BindingResource::Buffer(bound) });
        }
        self.check_host(ROOM_TO_WORK)?;
        let wanted = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
        self.guarded("binding", || self.device.create_bind_group(&wanted))
    }
}

impl Grid {
    /// Workgroups of a part of no more than so much work. Of several rows of `GROUPS` they are whole rows: groups that
    /// pad the last row would be the first ones of the next part.
    fn part(self, limit: u64) -> u64 {
        let groups = u128::from(self.groups) * u128::from(limit) / u128::from(self.work.max(1));
        match u64::try_from(groups).unwrap_or(u64::MAX).clamp(1, self.groups) {
            all if all == self.groups => all,
            groups if groups > GROUPS => groups / GROUPS * GROUPS,
            groups => groups,
        }
    }

    /// The work of so many of its workgroups.
    fn work_of(self, groups: u64) -> u64 {
        (u128::from(self.work) * u128::from(groups) / u128::from(self.groups)) as u64
    }
}

/// A kernel that is bound to its buffers: to record it takes no memory but a submission's.
#[derive(Debug)]
pub struct Ready {
    pipeline: Arc<Pipeline>,
    bound: wgpu::BindGroup,
    grid: Grid,
}

impl Gpu<'_> {
    /// Records one run of a kernel over `grid`. `buffers` are the entry's storage bindings in the order of their
    /// numbers; an optional one that is absent is stood in for by any buffer that is only read. `params` is the
    /// uniform, field for field.
    pub fn dispatch<P: NoUninit>(&self, kernel: &Kernel, buffers: &[&GpuBuffer], params: &P, grid: Grid) -> Result<()> {
        self.repeat(kernel, buffers, grid, 1, |_| *params)
    }

    /// Records `steps` runs of one kernel over one set of buffers, one after the other: run `i` sees what run
    /// `i - 1` wrote, and `params(i)`. The cheap form for time loops.
    pub fn repeat<P: NoUninit>(
        &self,
        kernel: &Kernel,
        buffers: &[&GpuBuffer],
        grid: Grid,
        steps: usize,
        params: impl Fn(usize) -> P,
    ) -> Result<()> {
        if grid.groups == 0 || steps == 0 {
            return self.context.check();
        }
        self.record(&self.ready::<P>(kernel, buffers, grid)?, steps, params)
    }

    /// What `repeat` records, bound; `grid` has workgroups.
    pub fn ready<P: NoUninit>(&self, kernel: &Kernel, buffers: &[&GpuBuffer], grid: Grid) -> Result<Ready> {
        let context = &*self.context;
        context.check()?;
        let mut recorder = context.recorder();
        let pipeline = recorder.pipelines.get(context, kernel)?;
        let blocks = self.checked(&pipeline, buffers, grid, size_of::<P>())?;
        let bound = context.bind(&mut recorder, &pipeline, &blocks)?;
        Ok(Ready { pipeline, bound, grid })
    }

    /// Records runs that write in place, to the end: all of them, or the device is lost, and with it what is half
    /// written.
    pub fn record_all<P: NoUninit>(&self, runs: &[(Ready, P)]) -> Result<()> {
        let whole = self.quietly()?;
        for (ready, params) in runs {
            if let Err(error) = whole.record(ready, 1, |_| *params) {
                self.context.fault.lose(format!("writes in place ended half way: {error}"));
                return self.context.check();
            }
        }
        Ok(())
    }

    fn record<P: NoUninit>(&self, ready: &Ready, steps: usize, params: impl Fn(usize) -> P) -> Result<()> {
        let (context, Ready { pipeline, bound, grid }) = (&*self.context, ready);
        // More than one submission's work is cut, where the kernel can begin at any workgroup.
        let part = match pipeline.entry.first_group {
            Some(_) => grid.part(context.limits.work),
            None => grid.groups,
        };
        let parts = grid.groups.div_ceil(part);
        // A launch itself costs some microseconds.
        let work = grid.work_of(part).saturating_add(context.limits.work / 5_000);
        let mut runs = (0..steps).flat_map(|step| (0..parts).map(move |i| (step, i * part))).peekable();
        while runs.peek().is_some() {
            {
                let mut recorder = context.recorder();
                while let Some((step, first)) = runs.next_if(|_| !recorder.is_due(context, work)) {
                    let groups = part.min(grid.groups - first);
                    let offset = recorder.push(bytes_of(&params(step)));
                    if let Some(at) = pipeline.entry.first_group {
                        recorder.records[offset as usize + at..][..4].copy_from_slice(&(first as u32).to_ne_bytes());
                    }
                    recorder.work = recorder.work.saturating_add(work);
                    let x = groups.min(GROUPS);
                    let (x, y) = (x as u32, groups.div_ceil(x) as u32);
                    let pass = recorder.pass(context)?;
                    without_report(|| {
                        pass.set_pipeline(&pipeline.pipeline);
                        pass.set_bind_group(0, bound, &[offset]);
                        pass.dispatch_workgroups(x, y, 1);
                    })
                    .map_err(Error::internal)?;
                    Counters::add(&context.counters.dispatches, 1);
                    // with its dispatch, whoever submits it
                    Counters::add(&context.counters.bytes_up, RECORD as u64);
                }
                if runs.peek().is_some() || recorder.is_due(context, 0) {
                    context.submit(&mut recorder)?;
                }
            }
            // The lock is free here: waiting may call back into Python.
            self.throttle()?;
        }
        Ok(())
    }

    /// Counts what was recorded without a kernel, a copy or a clear of `bytes`, as the work that it is: what is
    /// recorded and submitted stays bounded.
    pub(super) fn moved(&self, bytes: u64) -> Result<()> {
        let context = &*self.context;
        {
            let mut recorder = context.recorder();
            recorder.work = recorder.work.saturating_add(bytes / 4).saturating_add(context.limits.work / 5_000);
            if recorder.is_due(context, 0) {
                context.submit(&mut recorder)?;
            }
        }
        self.throttle()
    }

    /// Refuses what wgpu would refuse later, with the whole submission, or what a driver would do wrongly.
    fn checked<'b>(
        &self,
        pipeline: &Pipeline,
        buffers: &[&'b GpuBuffer],
        grid: Grid,
        uniform: usize,
    ) -> Result<Vec<Bound<'b>>> {
        let entry = pipeline.entry;
        let wrong = |what: String| Err(Error::internal(format!("{}:{}: {what}", pipeline.shader, entry.name)));
        if entry.storage().count() != buffers.len() || entry.uniform_size() as usize != uniform {
            return wrong(format!("called with {} buffers and {uniform} bytes of parameters", buffers.len()));
        }
        if grid.trips > TRIPS {
            return wrong(format!("{} loop trips in one invocation", grid.trips));
        }
        if grid.groups > GROUPS * GROUPS {
            return wrong(format!("{} workgroups", grid.groups));
        }
        let mut blocks = Vec::with_capacity(buffers.len());
        for (i, (binding, buffer)) in entry.storage().zip(buffers).enumerate() {
            let alias =
                entry.storage().zip(buffers).take(i).any(|(b, other)| {
                    other.is_same(buffer) && (b.access, binding.access) != (Access::Read, Access::Read)
                });
            if alias {
                return wrong(format!("{} is bound twice and written to", binding.name));
            }
            let block = buffer.block(&self.context)?;
            let bytes = buffer.bytes().next_multiple_of(16).max(16);
            if bytes > self.context.limits.binding {
                let most = self.context.limits.binding;
                let expected = format!("at most {most} bytes of one tensor, which is what a kernel on this GPU sees");
                let got = format!("{} elements of {}", buffer.len(), buffer.dtype());
                return Err(Error::too_large(expected, got));
            }
            // The block was made 16 bytes at a time too, and windows begin at multiples of 256.
            blocks.push(Bound { buffer: block, offset: buffer.offset(), size: NonZeroU64::new(bytes) });
        }
        Ok(blocks)
    }

    /// Hands what is recorded to the device now.
    #[cfg(test)]
    pub(super) fn flush(&self) -> Result<()> {
        self.context.check()?;
        self.context.submit(&mut self.context.recorder())?;
        self.throttle()
    }

    /// Waits until no more than the allowed submissions are under way.
    pub(super) fn throttle(&self) -> Result<()> {
        loop {
            let oldest = {
                let recorder = self.context.recorder();
                if recorder.in_flight.len() <= IN_FLIGHT {
                    return Ok(());
                }
                recorder.in_flight.front().cloned()
            };
            match oldest {
                Some(submission) => self.wait(&submission)?,
                None => return Ok(()),
            }
        }
    }

    /// Waits for one submission, asking the caller now and then whether to go on.
    pub(super) fn wait(&self, submission: &Submission) -> Result<()> {
        self.context.wait(submission, self.poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A kernel that adds to what is there must not run a workgroup twice.
    #[test]
    fn parts_are_whole_rows_of_workgroups() {
        let grid = Grid::new(300_000).work(600_000);
        for (limit, part) in [(0, 1), (141, 70), (131_070, 65_535), (131_080, 65_535), (262_160, 131_070)] {
            assert_eq!(grid.part(limit), part);
        }
        assert_eq!(grid.part(600_000), 300_000);
        assert_eq!(grid.part(u64::MAX), 300_000);
        assert_eq!(Grid::new(7).part(1), 7);
    }
}
