// Computes the shared functions element by element, so that a device can be checked against the host.
// uses: grid, math, philox

struct Probe {
    count: u32,
    function: u32,
    seed_low: u32,
    seed_high: u32,
    stream_low: u32,
    stream_high: u32,
    block_low: u32,
    block_high: u32,
}

@group(0) @binding(0) var<uniform> probe: Probe;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> words: array<u32>;

// grid: ceil(count / 64) groups of 64 elements
// trips: none
@compute @workgroup_size(64)
fn functions(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_number(group, groups) * 64u + lane;
    if i < probe.count {
        let v = x[i];
        switch probe.function {
            case 0u: { y[i] = exp_f32(v); }
            case 1u: { y[i] = sigmoid(v); }
            case 2u: { y[i] = tanh_f32(v); }
            default: { y[i] = v; }
        }
    }
}

// grid: ceil(count / 64) groups of 64 blocks of four words
// trips: none
@compute @workgroup_size(64)
fn random_words(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_number(group, groups) * 64u + lane;
    if i < probe.count {
        let low = probe.block_low + i;
        let high = probe.block_high + select(0u, 1u, low < i);
        let seed = vec2<u32>(probe.seed_low, probe.seed_high);
        let four = philox(seed, vec2<u32>(probe.stream_low, probe.stream_high), vec2<u32>(low, high));
        words[4u * i] = four.x;
        words[4u * i + 1u] = four.y;
        words[4u * i + 2u] = four.z;
        words[4u * i + 3u] = four.w;
    }
}
