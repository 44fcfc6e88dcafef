//! Pipelines, made on first use and kept: wgpu makes a new one for every request, which costs from half a
//! millisecond to a tenth of a second. Layouts are explicit, because derived ones cannot carry the dynamic
//! offset by which a time loop changes its parameters.

use crate::error::{Error, Result};
use crate::gpu::context::{Context, ROOM_TO_GROW};
use crate::gpu::shaders::{Access, Entry, find};
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Which kernel: a shader file, an entry in it, values of its overridable constants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    shader: &'static str,
    entry: &'static str,
    overrides: Vec<(&'static str, u64)>,
}

impl Kernel {
    /// `Kernel::new("lstm/step", "forward")`
    pub fn new(shader: &'static str, entry: &'static str) -> Kernel {
        Kernel { shader, entry, overrides: Vec::new() }
    }

    /// With the constant `name` set to `value`.
    pub fn with(mut self, name: &'static str, value: f64) -> Kernel {
        self.overrides.push((name, value.to_bits()));
        self
    }
}

/// A kernel ready to run.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) entry: &'static Entry,
    pub(super) shader: &'static str,
}

/// All pipelines of a device.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    modules: HashMap<&'static str, wgpu::ShaderModule>,
    pipelines: HashMap<Kernel, Arc<Pipeline>>,
}

impl Pipelines {
    pub(super) fn get(&mut self, context: &Context, kernel: &Kernel) -> Result<Arc<Pipeline>> {
        if let Some(pipeline) = self.pipelines.get(kernel) {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(self.make(context, kernel)?);
        self.pipelines.insert(kernel.clone(), pipeline.clone());
        Ok(pipeline)
    }

    fn make(&mut self, context: &Context, kernel: &Kernel) -> Result<Pipeline> {
        let (shader, entry) = find(kernel.shader, kernel.entry)?;
        for (name, _) in &kernel.overrides {
            if !shader.overrides.iter().any(|(known, _)| known == name) {
                return Err(Error::internal(format!("{}: no constant {name}", shader.name)));
            }
        }
        let device = &context.device;
        let what = format!("shader {}:{}", shader.name, entry.name);
        context.check_host(ROOM_TO_GROW)?;
        let module = match self.modules.get(shader.name) {
            Some(module) => module.clone(),
            None => {
                let wanted = wgpu::ShaderModuleDescriptor {
                    label: Some(shader.name),
                    source: wgpu::ShaderSource::Wgsl(shader.source.into()),
                };
                let module = context.guarded(&what, || device.create_shader_module(wanted))?;
                self.modules.insert(shader.name, module.clone());
                module
            }
        };
        let entries: Vec<wgpu::BindGroupLayoutEntry> = entry
            .bindings
            .iter()
            .map(|b| wgpu::BindGroupLayoutEntry {
                binding: b.number,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match b.access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        access => wgpu::BufferBindingType::Storage { read_only: access == Access::Read },
                    },
                    has_dynamic_offset: b.access == Access::Uniform,
                    min_binding_size: NonZeroU64::new(u64::from(b.size)),
                },
                count: None,
            })
            .collect();
        let constants: Vec<(&str, f64)> =
            kernel.overrides.iter().map(|&(name, bits)| (name, f64::from_bits(bits))).collect();
        context.guarded(&what, || {
            let layout =
                device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
            let whole = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(shader.name),
                layout: Some(&whole),
                module: &module,
                entry_point: Some(&entry.name),
                compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, ..Default::default() },
                cache: None,
            });
            Pipeline { pipeline, layout, entry, shader: shader.name }
        })
    }
}
