// One tensor's step of SGD, Adam or AdamW (equations: mod.rs), element by element.
// uses: grid

struct Step {
    count: u32,
    // NESTEROV, MAXIMIZE, FIRST
    flags: u32,
    weight_decay: f32,
    // SGD: lr; Adam: lr / (1 - beta1^t)
    size: f32,
    // SGD: momentum, 1 - dampening
    momentum: f32,
    rest: f32,
    // Adam: 1 - beta1, beta2, 1 - beta2, sqrt(1 - beta2^t), eps, 1 - lr wd where decay is decoupled
    new_1: f32,
    beta_2: f32,
    new_2: f32,
    root: f32,
    eps: f32,
    keep: f32,
    first_group: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> p: Step;
@group(0) @binding(1) var<storage, read_write> param: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> buffer: array<f32>;
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> square: array<f32>;
@group(0) @binding(5) var<storage, read_write> largest: array<f32>;

const NESTEROV = 1u;
const MAXIMIZE = 2u;
const FIRST = 4u;

fn is_set(flag: u32) -> bool {
    return (p.flags & flag) != 0u;
}

// The gradient as the step uses it, for a parameter that is `value` now. Without decay an infinite value is no
// business of the gradient's.
fn gradient(i: u32, value: f32) -> f32 {
    let g = select(grad[i], -grad[i], is_set(MAXIMIZE));
    return select(g + p.weight_decay * value, g, p.weight_decay == 0.0);
}

// grid: ceil(count / 64) groups of 64 elements
// trips: none
@compute @workgroup_size(64)
fn sgd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 64u + lane;
    if i < p.count {
        param[i] = param[i] - p.size * gradient(i, param[i]);
    }
}

// grid: ceil(count / 64) groups of 64 elements
// trips: none
@compute @workgroup_size(64)
fn sgd_momentum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 64u + lane;
    if i < p.count {
        let g = gradient(i, param[i]);
        // selected, not multiplied: before the first step the buffer may hold anything
        let b = select(p.momentum * buffer[i] + p.rest * g, g, is_set(FIRST));
        buffer[i] = b;
        param[i] = param[i] - p.size * select(b, g + p.momentum * b, is_set(NESTEROV));
    }
}

// m and v after this step, for a parameter that is `value` now; gives v.
fn moments(i: u32, value: f32) -> f32 {
    let g = gradient(i, value);
    // from the nearer end, as PyTorch's lerp
    let change = g - mean[i];
    mean[i] = select(g - change * (1.0 - p.new_1), mean[i] + p.new_1 * change, p.new_1 < 0.5);
    let v = p.beta_2 * square[i] + p.new_2 * (g * g);
    square[i] = v;
    return v;
}

// grid: ceil(count / 64) groups of 64 elements
// trips: none
@compute @workgroup_size(64)
fn adam(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 64u + lane;
    if i < p.count {
        let value = param[i] * p.keep;
        let v = moments(i, value);
        param[i] = value - p.size * (mean[i] / (sqrt(v) / p.root + p.eps));
    }
}

// grid: ceil(count / 64) groups of 64 elements
// trips: none
@compute @workgroup_size(64)
fn adam_largest(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 64u + lane;
    if i < p.count {
        let value = param[i] * p.keep;
        let v = moments(i, value);
        let before = largest[i];
        let greatest = select(v, before, v <= before);
        largest[i] = greatest;
        param[i] = value - p.size * (mean[i] / (sqrt(greatest) / p.root + p.eps));
    }
}
