// Sums by the tree that `reference.rs` states: blocks of 128 terms, 16 partial sums in each, joined in halves; block
// sums joined two by two, level by level, which is the same tree: what is left of the largest power of two are
// whole pairs. The argument is (outer, n, inner), summed over n.
// uses: grid

struct Params {
    // results of this dispatch
    count: u32,
    n: u32,
    inner: u32,
    // of a sum: how many results (blocks of 128, or groups of 16) it has here
    blocks: u32,
    // first element of x and y in their windows
    x_start: u32,
    y_start: u32,
    first_group: u32,
    pad: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> parts: array<f32, 64>;

// Terms side by side: 16 lanes are the partial sums of a block, four blocks to a workgroup.
// grid: ceil(count / 4)
// trips: 9
@compute @workgroup_size(64)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let result = (group_number(group, groups) + p.first_group) * 4u + lane / 16u;
    let l = lane % 16u;
    var sum = 0.0;
    if result < p.count {
        let block = result % p.blocks;
        let row = p.x_start + (result / p.blocks) * p.n;
        let end = min(p.n, block * 128u + 128u);
        for (var k = block * 128u + l; k < end; k += 16u) {
            sum = sum + x[row + k];
        }
    }
    parts[lane] = sum;
    workgroupBarrier();
    if l < 8u {
        parts[lane] = parts[lane] + parts[lane + 8u];
    }
    workgroupBarrier();
    if l < 4u {
        parts[lane] = parts[lane] + parts[lane + 4u];
    }
    workgroupBarrier();
    if l < 2u {
        parts[lane] = parts[lane] + parts[lane + 2u];
    }
    workgroupBarrier();
    if l == 0u && result < p.count {
        y[p.y_start + result] = parts[lane] + parts[lane + 1u];
    }
}

// Sums side by side: a thread is a block of one sum, its neighbours the same block of the sums beside it.
// grid: ceil(count / 64)
// trips: 16 * 9 + 17 + 20
@compute @workgroup_size(64)
fn columns(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let result = (group_number(group, groups) + p.first_group) * 64u + lane;
    if result < p.count {
        let column = result % p.inner;
        let block = (result / p.inner) % p.blocks;
        let first = p.x_start + (result / p.inner / p.blocks) * p.n * p.inner + column;
        let end = min(p.n, block * 128u + 128u);
        var sums: array<f32, 16>;
        for (var l = 0u; l < 16u; l += 1u) {
            var sum = 0.0;
            for (var k = block * 128u + l; k < end; k += 16u) {
                sum = sum + x[first + k * p.inner];
            }
            sums[l] = sum;
        }
        for (var half = 8u; half > 0u; half = half / 2u) {
            for (var l = 0u; l < half; l += 1u) {
                sums[l] = sums[l] + sums[l + half];
            }
        }
        y[p.y_start + result] = sums[0];
    }
}

// Sixteen neighbouring block sums to one, in four levels of pairs; one that has no partner goes up as it is.
// grid: ceil(count / 64)
// trips: 17 + 5 + 19
@compute @workgroup_size(64)
fn join(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let result = (group_number(group, groups) + p.first_group) * 64u + lane;
    if result < p.count {
        let column = result % p.inner;
        let block = (result / p.inner) % p.blocks;
        let first = (result / p.inner / p.blocks) * p.n;
        var there = min(16u, p.n - block * 16u);
        var sums: array<f32, 16>;
        for (var l = 0u; l < there; l += 1u) {
            sums[l] = x[p.x_start + (first + block * 16u + l) * p.inner + column];
        }
        for (var level = 0u; level < 4u; level += 1u) {
            let pairs = there / 2u;
            for (var l = 0u; l < pairs; l += 1u) {
                sums[l] = sums[2u * l] + sums[2u * l + 1u];
            }
            if there % 2u == 1u {
                sums[pairs] = sums[there - 1u];
            }
            there = pairs + there % 2u;
        }
        y[p.y_start + result] = sums[0];
    }
}
