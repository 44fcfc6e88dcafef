// Picking by ids, writing at ids and sums by id (equations: mod.rs). Blocks are `width` elements; a thread is one
// element. Skipped ids are 0xffffffff.
// uses: grid

struct Sizes {
    count: u32,
    front: u32,
    // how many are picked of a row, and what their ids are below
    ids: u32,
    bound: u32,
    width: u32,
    // whether one value is put everywhere
    one: u32,
    first_group: u32,
    pad: u32,
}

@group(0) @binding(0) var<uniform> p: Sizes;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> target_words: array<u32>;

// Where element i of what is picked lies in the whole; `id` is its id.
fn place(i: u32, id: u32) -> u32 {
    let front = i / p.width / p.ids;
    return (front * p.bound + id) * p.width + i % p.width;
}

// grid: ceil(count / 256), count the picked elements
// trips: none
@compute @workgroup_size(256)
fn take(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 256u + lane;
    if i < p.count {
        let id = ids[i / p.width % p.ids];
        var word = 0u;
        if id < p.bound {
            word = source[place(i, id)];
        }
        target_words[i] = word;
    }
}

// No id comes twice where there are several values.
// grid: ceil(count / 256), count the picked elements
// trips: none
@compute @workgroup_size(256)
fn assign_at(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 256u + lane;
    if i < p.count {
        let id = ids[i / p.width % p.ids];
        if id < p.bound {
            target_words[place(i, id)] = source[select(i, 0u, p.one != 0u)];
        }
    }
}

// The plan, made on the host: the places of every id one after the other; where in them each segment of at most 256
// places of one id begins, and where the last ends; for each id that occurs itself and its first segment, and at last
// how many segments there are. Of a segment and of an id each element in front * width is summed for itself. Where an
// id has very many segments, their sums are cut and summed once more, as values of one row.
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read> segments: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;

// grid: ceil(count / 256), count the segments times front * width
// trips: 257
@compute @workgroup_size(256)
fn sum_segments(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 256u + lane;
    if i < p.count {
        let each = p.front * p.width;
        let segment = i / each;
        let first = (i % each / p.width) * p.ids;
        let end = segments[segment + 1u];
        var sum = 0.0;
        for (var k = segments[segment]; k < end; k += 1u) {
            sum += values[(first + order[k]) * p.width + i % p.width];
        }
        sums[i] = sum;
    }
}

@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> of_segments: array<f32>;
@group(0) @binding(3) var<storage, read_write> added: array<f32>;

// grid: ceil(count / 256), count the ids that occur times front * width
// trips: most segments of an id + 1
@compute @workgroup_size(256)
fn sum_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 256u + lane;
    if i < p.count {
        let each = p.front * p.width;
        let row = 2u * (i / each);
        let at = i % each;
        let end = rows[row + 3u];
        var sum = 0.0;
        for (var k = rows[row + 1u]; k < end; k += 1u) {
            sum += of_segments[k * each + at];
        }
        added[((at / p.width) * p.bound + rows[row]) * p.width + i % p.width] = sum;
    }
}
