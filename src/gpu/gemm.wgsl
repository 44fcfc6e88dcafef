// C = A B + start, for any strides. A is (m, k), B is (k, n), C is (m, n) with its columns side by side. Start is
// nothing, one bias, two biases (rounded once), or C itself, which continues an earlier sum. Each element is one
// invocation's ascending chain over k, so it does not depend on m. One dispatch is a batch of products of one shape.
//
// k runs in blocks of `block`: number k is at (k / block) * block_stride + (k % block) * stride, and strides may
// be negative (as u32 they wrap). So a sum over (time, row) can run with time descending.
// uses: grid

struct Product {
    m: u32,
    n: u32,
    k_start: u32,
    k_end: u32,
    a_start: u32,
    a_row: u32,
    a_k: u32,
    a_block: u32,
    b_start: u32,
    b_column: u32,
    b_k: u32,
    b_block: u32,
    block: u32,
    c_start: u32,
    c_row: u32,
    // 0 zero, 1 bias_1, 2 bias_1 + bias_2, 3 what C holds
    begin: u32,
    // products in the batch, workgroups of one, and how far its matrices lie from those of the one before
    count: u32,
    tiles: u32,
    a_next: u32,
    b_next: u32,
    c_next: u32,
    first_group: u32,
    pad0: u32,
    pad1: u32,
}

// A workgroup's product, the place of its tile there, and where C begins. Those past the last one have no rows.
struct Part {
    rows: u32,
    tile: u32,
    a_0: u32,
    b_0: u32,
    c_0: u32,
}

@group(0) @binding(0) var<uniform> p: Product;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> bias_1: array<f32>;
@group(0) @binding(4) var<storage, read> bias_2: array<f32>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;

fn a_at(row: u32, k: u32) -> u32 {
    return p.a_start + row * p.a_row + (k / p.block) * p.a_block + (k % p.block) * p.a_k;
}

fn b_at(k: u32, column: u32) -> u32 {
    return p.b_start + column * p.b_column + (k / p.block) * p.b_block + (k % p.block) * p.b_k;
}

fn part_of(number: u32) -> Part {
    let item = min(number / p.tiles, p.count - 1u);
    let rows = select(0u, p.m, number < p.count * p.tiles);
    return Part(rows, number % p.tiles, item * p.a_next, item * p.b_next, p.c_start + item * p.c_next);
}

fn begin(c_0: u32, row: u32, column: u32) -> f32 {
    var value = 0.0;
    if p.begin == 1u {
        value = bias_1[column];
    } else if p.begin == 2u {
        value = bias_1[column] + bias_2[column];
    } else if p.begin == 3u {
        value = c[c_0 + row * p.c_row + column];
    }
    return value;
}

fn finish(part: Part, row: u32, column: u32, value: f32) {
    if row < part.rows && column < p.n {
        c[part.c_0 + row * p.c_row + column] = value;
    }
}

// Tiles of 64 x 64, 16 numbers of k at a time through workgroup memory, 4 x 4 elements a thread. 68 and not 64
// floats a line, so that the threads of a column fall on different banks.
const DEPTH = 16u;
const LINE = 68u;

var<workgroup> a_tile: array<f32, DEPTH * LINE>;
var<workgroup> b_tile: array<f32, DEPTH * LINE>;

fn a_line(at: u32) -> vec4<f32> {
    return vec4<f32>(a_tile[at], a_tile[at + 1u], a_tile[at + 2u], a_tile[at + 3u]);
}

fn b_line(at: u32) -> vec4<f32> {
    return vec4<f32>(b_tile[at], b_tile[at + 1u], b_tile[at + 2u], b_tile[at + 3u]);
}

fn begin_4(c_0: u32, row: u32, column: u32) -> vec4<f32> {
    let r = min(row, p.m - 1u);
    let last = p.n - 1u;
    return vec4<f32>(
        begin(c_0, r, min(column, last)),
        begin(c_0, r, min(column + 1u, last)),
        begin(c_0, r, min(column + 2u, last)),
        begin(c_0, r, min(column + 3u, last)),
    );
}

fn finish_4(part: Part, row: u32, column: u32, value: vec4<f32>) {
    finish(part, row, column, value.x);
    finish(part, row, column + 1u, value.y);
    finish(part, row, column + 2u, value.z);
    finish(part, row, column + 3u, value.w);
}

// grid: count * ceil(m / 64) * ceil(n / 64)
// trips: 23 * ceil((k_end - k_start) / 16)
@compute @workgroup_size(256)
fn tile(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (p.n + 63u) / 64u;
    let part = part_of(group_number(group, groups) + p.first_group);
    let row_0 = (part.tile / across) * 64u;
    let column_0 = (part.tile % across) * 64u;
    let row = row_0 + (lane / 16u) * 4u;
    let column = column_0 + (lane % 16u) * 4u;

    var s0 = begin_4(part.c_0, row, column);
    var s1 = begin_4(part.c_0, row + 1u, column);
    var s2 = begin_4(part.c_0, row + 2u, column);
    var s3 = begin_4(part.c_0, row + 3u, column);
    for (var k_0 = p.k_start; k_0 < p.k_end; k_0 += DEPTH) {
        for (var turn = 0u; turn < 4u; turn += 1u) {
            let e = lane + turn * 256u;
            // Neighbouring threads read along whichever axis is contiguous.
            let a_along_k = p.a_k == 1u;
            let a_k = select(e / 64u, e % 16u, a_along_k);
            let a_r = select(e % 64u, e / 16u, a_along_k);
            let b_along_k = p.b_k == 1u;
            let b_k = select(e / 64u, e % 16u, b_along_k);
            let b_c = select(e % 64u, e / 16u, b_along_k);
            let last = p.k_end - 1u;
            let a_value = a[part.a_0 + a_at(min(row_0 + a_r, p.m - 1u), min(k_0 + a_k, last))];
            let b_value = b[part.b_0 + b_at(min(k_0 + b_k, last), min(column_0 + b_c, p.n - 1u))];
            a_tile[a_k * LINE + a_r] = select(0.0, a_value, k_0 + a_k < p.k_end);
            b_tile[b_k * LINE + b_c] = select(0.0, b_value, k_0 + b_k < p.k_end);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += 1u) {
            let left = a_line(k * LINE + (lane / 16u) * 4u);
            let right = b_line(k * LINE + (lane % 16u) * 4u);
            s0 = s0 + left.x * right;
            s1 = s1 + left.y * right;
            s2 = s2 + left.z * right;
            s3 = s3 + left.w * right;
        }
        workgroupBarrier();
    }
    finish_4(part, row, column, s0);
    finish_4(part, row + 1u, column, s1);
    finish_4(part, row + 2u, column, s2);
    finish_4(part, row + 3u, column, s3);
}

// 8 x 4 elements a thread, without workgroup memory: ACROSS threads lie along a row and read A at shared addresses.
// Several times faster than `tile` where threads are CPU lanes. Narrow products take few threads across, and with
// them more rows a workgroup.
override ACROSS: u32 = 64u;

fn begin_columns(c_0: u32, row: u32, column: u32) -> vec4<f32> {
    let r = min(row, p.m - 1u);
    let last = p.n - 1u;
    return vec4<f32>(
        begin(c_0, r, min(column, last)),
        begin(c_0, r, min(column + ACROSS, last)),
        begin(c_0, r, min(column + 2u * ACROSS, last)),
        begin(c_0, r, min(column + 3u * ACROSS, last)),
    );
}

fn finish_columns(part: Part, row: u32, column: u32, value: vec4<f32>) {
    finish(part, row, column, value.x);
    finish(part, row, column + ACROSS, value.y);
    finish(part, row, column + 2u * ACROSS, value.z);
    finish(part, row, column + 3u * ACROSS, value.w);
}

// grid: count * ceil(m / (512 / ACROSS)) * ceil(n / (4 * ACROSS))
// trips: k_end - k_start + 1
@compute @workgroup_size(64)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let wide = 4u * ACROSS;
    let tiles = (p.n + wide - 1u) / wide;
    let part = part_of(group_number(group, groups) + p.first_group);
    let row = (part.tile / tiles) * (512u / ACROSS) + (lane / ACROSS) * 8u;
    let column = (part.tile % tiles) * wide + lane % ACROSS;

    var s0 = begin_columns(part.c_0, row, column);
    var s1 = begin_columns(part.c_0, row + 1u, column);
    var s2 = begin_columns(part.c_0, row + 2u, column);
    var s3 = begin_columns(part.c_0, row + 3u, column);
    var s4 = begin_columns(part.c_0, row + 4u, column);
    var s5 = begin_columns(part.c_0, row + 5u, column);
    var s6 = begin_columns(part.c_0, row + 6u, column);
    var s7 = begin_columns(part.c_0, row + 7u, column);
    let last_row = p.m - 1u;
    let last = p.n - 1u;
    let r0 = min(row, last_row) * p.a_row;
    let r1 = min(row + 1u, last_row) * p.a_row;
    let r2 = min(row + 2u, last_row) * p.a_row;
    let r3 = min(row + 3u, last_row) * p.a_row;
    let r4 = min(row + 4u, last_row) * p.a_row;
    let r5 = min(row + 5u, last_row) * p.a_row;
    let r6 = min(row + 6u, last_row) * p.a_row;
    let r7 = min(row + 7u, last_row) * p.a_row;
    let c0 = min(column, last) * p.b_column;
    let c1 = min(column + ACROSS, last) * p.b_column;
    let c2 = min(column + 2u * ACROSS, last) * p.b_column;
    let c3 = min(column + 3u * ACROSS, last) * p.b_column;
    var in_block = p.k_start % p.block;
    var a_k = part.a_0 + a_at(0u, p.k_start);
    var b_k = part.b_0 + b_at(p.k_start, 0u);
    for (var k = p.k_start; k < p.k_end; k += 1u) {
        let right = vec4<f32>(b[b_k + c0], b[b_k + c1], b[b_k + c2], b[b_k + c3]);
        s0 = s0 + a[a_k + r0] * right;
        s1 = s1 + a[a_k + r1] * right;
        s2 = s2 + a[a_k + r2] * right;
        s3 = s3 + a[a_k + r3] * right;
        s4 = s4 + a[a_k + r4] * right;
        s5 = s5 + a[a_k + r5] * right;
        s6 = s6 + a[a_k + r6] * right;
        s7 = s7 + a[a_k + r7] * right;
        in_block += 1u;
        a_k += p.a_k;
        b_k += p.b_k;
        if in_block == p.block {
            in_block = 0u;
            a_k += p.a_block - p.block * p.a_k;
            b_k += p.b_block - p.block * p.b_k;
        }
    }
    finish_columns(part, row, column, s0);
    finish_columns(part, row + 1u, column, s1);
    finish_columns(part, row + 2u, column, s2);
    finish_columns(part, row + 3u, column, s3);
    finish_columns(part, row + 4u, column, s4);
    finish_columns(part, row + 5u, column, s5);
    finish_columns(part, row + 6u, column, s6);
    finish_columns(part, row + 7u, column, s7);
}
