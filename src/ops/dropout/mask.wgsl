// Dropout (equations: mod.rs): a thread is a block of Philox and its four elements.
// uses: grid, philox

struct Mask {
    count: u32,
    // words whose upper 24 bits are below it are dropped
    threshold: u32,
    scale: f32,
    // number of the first block
    block_low: u32,
    block_high: u32,
    seed_low: u32,
    seed_high: u32,
    stream_low: u32,
    stream_high: u32,
    first_group: u32,
    unused_1: u32,
    unused_2: u32,
}

@group(0) @binding(0) var<uniform> p: Mask;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

fn element(i: u32, word: u32) {
    if i < p.count {
        let scaled = x[i] * p.scale;
        y[i] = select(0.0, scaled, (word >> 8u) >= p.threshold);
    }
}

// grid: ceil(count / 256) groups of 64 blocks
// trips: none
@compute @workgroup_size(64)
fn dropout(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 64u + lane;
    let low = p.block_low + i;
    let high = p.block_high + select(0u, 1u, low < i);
    let seed = vec2<u32>(p.seed_low, p.seed_high);
    let words = philox(seed, vec2<u32>(p.stream_low, p.stream_high), vec2<u32>(low, high));
    element(4u * i, words.x);
    element(4u * i + 1u, words.y);
    element(4u * i + 2u, words.z);
    element(4u * i + 3u, words.w);
}
