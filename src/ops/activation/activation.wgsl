// Activations and their derivatives (equations: mod.rs): a thread is one element.
// uses: grid, math

struct Params {
    count: u32,
    function: u32,
    first_group: u32,
    pad: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(1) var<storage, read> output: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// grid: ceil(count / 256)
// trips: none
@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 256u + lane;
    if i < p.count {
        let v = x[i];
        switch p.function {
            case 0u: { y[i] = sigmoid(v); }
            case 1u: { y[i] = tanh_f32(v); }
            // NaN and -0 pass
            default: { y[i] = select(v, 0.0, v < 0.0 && !is_nan(v)); }
        }
    }
}

// grid: ceil(count / 256)
// trips: none
@compute @workgroup_size(256)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 256u + lane;
    if i < p.count {
        let v = output[i];
        let d = dy[i];
        switch p.function {
            case 0u: { dx[i] = d * (v * (1.0 - v)); }
            case 1u: { dx[i] = d * (1.0 - v * v); }
            default: { dx[i] = select(0.0, d, v > 0.0 || is_nan(v)); }
        }
    }
}
