// Moving elements through strided views. Elements are moved as bits, whatever they stand for; a thread is one element.
// uses: grid, walk

struct View {
    count: u32,
    view_start: u32,
    dense_start: u32,
    n1: u32,
    n2: u32,
    n3: u32,
    n4: u32,
    n5: u32,
    s0: u32,
    s1: u32,
    s2: u32,
    s3: u32,
    s4: u32,
    s5: u32,
    first_group: u32,
    pad: u32,
}

@group(0) @binding(0) var<uniform> view: View;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> target_words: array<u32>;

fn position(i: u32) -> u32 {
    let at = index_of(i, view.n1, view.n2, view.n3, view.n4, view.n5);
    return view.view_start + offset_of(at, view.s0, view.s1, view.s2, view.s3, view.s4, view.s5);
}

// grid: ceil(count / 256)
// trips: none
@compute @workgroup_size(256)
fn copy_strided(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + view.first_group) * 256u + lane;
    if i < view.count {
        target_words[view.dense_start + i] = source[position(i)];
    }
}

// grid: ceil(count / 256)
// trips: none
@compute @workgroup_size(256)
fn place_strided(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + view.first_group) * 256u + lane;
    if i < view.count {
        target_words[position(i)] = source[view.dense_start + i];
    }
}
