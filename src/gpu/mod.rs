//! The GPU workshop (wgpu): adapters, context, buffers, pipelines, counters, and the shader functions that
//! several operations share. It knows no operation and no Python.
