// One time step of an LSTM (equations: mod.rs). The pre-activations of all steps, as far as they come from the
// inputs, are in `gates` before; a step adds the recurrent product, activates in place, and writes c and h.
// A thread is one unit of four rows: the recurrent weights are packed so that one 16-byte load serves all four
// gates, and h is read at addresses that the whole workgroup shares.
// uses: grid, math

struct Step {
    rows: u32,
    units: u32,
    // first elements of this step's gates, h and c
    gates_start: u32,
    h_start: u32,
    c_start: u32,
    // of the step before
    h_before: u32,
    c_before: u32,
    // 1: the state before is h0 and c0; 2: it is zero; 0: it is in `h` and `c`
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Step;
// (k, unit): weights of i, f, g, o
@group(0) @binding(1) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> h0: array<f32>;
@group(0) @binding(3) var<storage, read> c0: array<f32>;
@group(0) @binding(4) var<storage, read_write> gates: array<f32>;
@group(0) @binding(5) var<storage, read_write> h: array<f32>;
@group(0) @binding(6) var<storage, read_write> c: array<f32>;

@group(0) @binding(1) var<storage, read> weight_hh: array<f32>;
@group(0) @binding(2) var<storage, read_write> packed: array<vec4<f32>>;

fn load_gates(row: u32, unit: u32) -> vec4<f32> {
    let at = p.gates_start + min(row, p.rows - 1u) * 4u * p.units + min(unit, p.units - 1u);
    return vec4<f32>(gates[at], gates[at + p.units], gates[at + 2u * p.units], gates[at + 3u * p.units]);
}

fn finish(row: u32, unit: u32, sum: vec4<f32>) {
    if row >= p.rows || unit >= p.units {
        return;
    }
    let at = row * p.units + unit;
    var before = 0.0;
    if p.first == 0u {
        before = c[p.c_before + at];
    } else if p.first == 1u {
        before = c0[at];
    }
    let i = sigmoid(sum.x);
    let f = sigmoid(sum.y);
    let g = tanh_f32(sum.z);
    let o = sigmoid(sum.w);
    let cell = f * before + i * g;
    c[p.c_start + at] = cell;
    h[p.h_start + at] = o * tanh_f32(cell);
    let gate = p.gates_start + row * 4u * p.units + unit;
    gates[gate] = i;
    gates[gate + p.units] = f;
    gates[gate + 2u * p.units] = g;
    gates[gate + 3u * p.units] = o;
}

// grid: ceil(rows / 4) * ceil(units / 64)
// trips: units + 1
@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (p.units + 63u) / 64u;
    let number = group_number(group, groups);
    let row = (number / across) * 4u;
    let unit = (number % across) * 64u + lane;
    var s0 = load_gates(row, unit);
    var s1 = load_gates(row + 1u, unit);
    var s2 = load_gates(row + 2u, unit);
    var s3 = load_gates(row + 3u, unit);
    let last = p.rows - 1u;
    let r0 = min(row, last) * p.units;
    let r1 = min(row + 1u, last) * p.units;
    let r2 = min(row + 2u, last) * p.units;
    let r3 = min(row + 3u, last) * p.units;
    let column = min(unit, p.units - 1u);
    if p.first == 0u {
        for (var k = 0u; k < p.units; k += 1u) {
            let w = weights[k * p.units + column];
            s0 = s0 + h[p.h_before + r0 + k] * w;
            s1 = s1 + h[p.h_before + r1 + k] * w;
            s2 = s2 + h[p.h_before + r2 + k] * w;
            s3 = s3 + h[p.h_before + r3 + k] * w;
        }
    } else if p.first == 1u {
        for (var k = 0u; k < p.units; k += 1u) {
            let w = weights[k * p.units + column];
            s0 = s0 + h0[r0 + k] * w;
            s1 = s1 + h0[r1 + k] * w;
            s2 = s2 + h0[r2 + k] * w;
            s3 = s3 + h0[r3 + k] * w;
        }
    }
    finish(row, unit, s0);
    finish(row + 1u, unit, s1);
    finish(row + 2u, unit, s2);
    finish(row + 3u, unit, s3);
}

// (4, unit, k) -> (k, unit, 4)
// grid: ceil(units * units / 64)
// trips: none
@compute @workgroup_size(64)
fn pack(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_number(group, groups) * 64u + lane;
    if at < p.units * p.units {
        let source = (at % p.units) * p.units + at / p.units;
        let gate = p.units * p.units;
        packed[at] = vec4<f32>(
            weight_hh[source],
            weight_hh[source + gate],
            weight_hh[source + 2u * gate],
            weight_hh[source + 3u * gate],
        );
    }
}
