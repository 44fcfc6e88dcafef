// One time step of an LSTM's backward (equations: mod.rs), t descending: dh from above and from the gates of the
// step after, then the gradients of this step's gates, in place of the gates. The product comes first and the
// gates after it, so everything that a step reads of the step after is complete when it starts, and one dispatch
// a step is enough. A thread is one unit of four rows; W_hh is read along its contiguous axis.
// uses: grid, math

struct Step {
    rows: u32,
    units: u32,
    gates_start: u32,
    // gates of the step after, which hold gradients by now
    gates_after: u32,
    c_start: u32,
    c_before: u32,
    y_start: u32,
    // added up: 1 there is no step after, 2 no step before and no c0, 4 no step before but c0, 8 no dy,
    // 16 no dc yet, 32 dh_n in place of the product
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Step;
// (4, k, unit)
@group(0) @binding(1) var<storage, read> weight_hh: array<f32>;
@group(0) @binding(2) var<storage, read_write> gates: array<f32>;
@group(0) @binding(3) var<storage, read> c: array<f32>;
@group(0) @binding(4) var<storage, read> c0: array<f32>;
@group(0) @binding(5) var<storage, read> dy: array<f32>;
@group(0) @binding(6) var<storage, read> dh_n: array<f32>;
@group(0) @binding(7) var<storage, read_write> dc: array<f32>;

@group(0) @binding(3) var<storage, read_write> dh0: array<f32>;

// dh of this step that comes by way of the step after: a chain a gate, joined as (i + f) + (g + o).
struct FourRows {
    r0: f32,
    r1: f32,
    r2: f32,
    r3: f32,
}

fn recurrent(row: u32, unit: u32) -> FourRows {
    let last = p.rows - 1u;
    let r0 = p.gates_after + min(row, last) * 4u * p.units;
    let r1 = p.gates_after + min(row + 1u, last) * 4u * p.units;
    let r2 = p.gates_after + min(row + 2u, last) * 4u * p.units;
    let r3 = p.gates_after + min(row + 3u, last) * 4u * p.units;
    let n = p.units;
    let column = min(unit, n - 1u);
    var s0 = vec4<f32>();
    var s1 = vec4<f32>();
    var s2 = vec4<f32>();
    var s3 = vec4<f32>();
    for (var k = 0u; k < n; k += 1u) {
        let at = k * n + column;
        let w = vec4<f32>(
            weight_hh[at],
            weight_hh[at + n * n],
            weight_hh[at + 2u * n * n],
            weight_hh[at + 3u * n * n],
        );
        s0 = s0 + w * vec4<f32>(gates[r0 + k], gates[r0 + n + k], gates[r0 + 2u * n + k], gates[r0 + 3u * n + k]);
        s1 = s1 + w * vec4<f32>(gates[r1 + k], gates[r1 + n + k], gates[r1 + 2u * n + k], gates[r1 + 3u * n + k]);
        s2 = s2 + w * vec4<f32>(gates[r2 + k], gates[r2 + n + k], gates[r2 + 2u * n + k], gates[r2 + 3u * n + k]);
        s3 = s3 + w * vec4<f32>(gates[r3 + k], gates[r3 + n + k], gates[r3 + 2u * n + k], gates[r3 + 3u * n + k]);
    }
    var sum: FourRows;
    sum.r0 = (s0.x + s0.y) + (s0.z + s0.w);
    sum.r1 = (s1.x + s1.y) + (s1.z + s1.w);
    sum.r2 = (s2.x + s2.y) + (s2.z + s2.w);
    sum.r3 = (s3.x + s3.y) + (s3.z + s3.w);
    return sum;
}

fn finish(row: u32, unit: u32, product: f32) {
    if row >= p.rows || unit >= p.units {
        return;
    }
    let at = row * p.units + unit;
    var dh = product;
    if (p.flags & 32u) != 0u {
        dh = dh_n[at];
    }
    if (p.flags & 8u) == 0u {
        dh = dh + dy[p.y_start + at];
    }
    let gate = p.gates_start + row * 4u * p.units + unit;
    let i = gates[gate];
    let f = gates[gate + p.units];
    let g = gates[gate + 2u * p.units];
    let o = gates[gate + 3u * p.units];
    var before = 0.0;
    if (p.flags & 6u) == 0u {
        before = c[p.c_before + at];
    } else if (p.flags & 4u) != 0u {
        before = c0[at];
    }
    let squashed = tanh_f32(c[p.c_start + at]);
    var d = 0.0;
    if (p.flags & 16u) == 0u {
        d = dc[at];
    }
    d = d + dh * o * (1.0 - squashed * squashed);
    gates[gate] = d * g * (i * (1.0 - i));
    gates[gate + p.units] = d * before * (f * (1.0 - f));
    gates[gate + 2u * p.units] = d * i * (1.0 - g * g);
    gates[gate + 3u * p.units] = dh * squashed * (o * (1.0 - o));
    dc[at] = d * f;
}

// grid: ceil(rows / 4) * ceil(units / 64)
// trips: units + 1
@compute @workgroup_size(64)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (p.units + 63u) / 64u;
    let number = group_number(group, groups);
    let row = (number / across) * 4u;
    let unit = (number % across) * 64u + lane;
    var sum: FourRows;
    if (p.flags & 1u) == 0u {
        sum = recurrent(row, unit);
    }
    finish(row, unit, sum.r0);
    finish(row + 1u, unit, sum.r1);
    finish(row + 2u, unit, sum.r2);
    finish(row + 3u, unit, sum.r3);
}

fn store(row: u32, unit: u32, value: f32) {
    if row < p.rows && unit < p.units {
        dh0[row * p.units + unit] = value;
    }
}

// The gradient of the initial h, from the gates of the first step.
// grid: ceil(rows / 4) * ceil(units / 64)
// trips: units + 1
@compute @workgroup_size(64)
fn initial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (p.units + 63u) / 64u;
    let number = group_number(group, groups);
    let row = (number / across) * 4u;
    let unit = (number % across) * 64u + lane;
    let sum = recurrent(row, unit);
    store(row, unit, sum.r0);
    store(row + 1u, unit, sum.r1);
    store(row + 2u, unit, sum.r2);
    store(row + 3u, unit, sum.r3);
}
