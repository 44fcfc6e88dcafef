// Embedding and its gradient (equations: mod.rs). Ids are numbers of rows, 0xffffffff where skipped.
// uses: grid

struct Rows {
    // elements of y, or rows of the plan
    count: u32,
    features: u32,
    // in the plan: where the ends of segments and the rows begin
    segments: u32,
    rows: u32,
    first_group: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> p: Rows;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// grid: ceil(count / 64) groups of 64 elements of y
// trips: none
@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 64u + lane;
    if i < p.count {
        y[i] = weight[ids[i / p.features] * p.features + i % p.features];
    }
}

// The plan, made on the host: the positions of every id one after the other; for each segment of at most 256 of one
// id where it begins, and one end; for each id that occurs (row, first segment, end of its segments).
@group(0) @binding(1) var<storage, read> plan: array<u32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;

// grid: count * ceil(features / 64): the sums of all segments
// trips: 257
@compute @workgroup_size(64)
fn sum_segments(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (p.features + 63u) / 64u;
    let number = group_number(group, groups) + p.first_group;
    let segment = number / across;
    let feature = (number % across) * 64u + lane;
    if segment < p.count && feature < p.features {
        var sum = 0.0;
        let end = plan[p.segments + segment + 1u];
        for (var i = plan[p.segments + segment]; i < end; i += 1u) {
            sum += dy[plan[i] * p.features + feature];
        }
        sums[segment * p.features + feature] = sum;
    }
}

@group(0) @binding(2) var<storage, read> of_segments: array<f32>;
@group(0) @binding(3) var<storage, read_write> dweight: array<f32>;

// grid: count * ceil(features / 64): the rows that occur, from their segments in order
// trips: most segments of a row + 1
@compute @workgroup_size(64)
fn sum_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (p.features + 63u) / 64u;
    let number = group_number(group, groups) + p.first_group;
    let row = number / across;
    let feature = (number % across) * 64u + lane;
    if row < p.count && feature < p.features {
        let at = p.rows + 3u * row;
        var sum = 0.0;
        let end = plan[at + 2u];
        for (var i = plan[at + 1u]; i < end; i += 1u) {
            sum += of_segments[i * p.features + feature];
        }
        dweight[plan[at] * p.features + feature] = sum;
    }
}
