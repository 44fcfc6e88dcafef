// Moving elements through strided views, and by position. Elements are moved as bits, whatever they stand for; a
// thread is one element, in `put_add` one element of the result.
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

struct Ids {
    count: u32,
    // of a row: how many are picked, and all elements
    ids: u32,
    width: u32,
    // different ids in this dispatch, and most values of one
    distinct: u32,
    first: u32,
    most: u32,
    first_group: u32,
    pad: u32,
}

@group(0) @binding(0) var<uniform> view: View;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> target_words: array<u32>;

@group(0) @binding(0) var<uniform> p: Ids;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> taken: array<u32>;

// Of group i: its id and where its values begin in `order` (and, last, where all end); the values' numbers, by id.
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read> groups_of_ids: array<u32>;
@group(0) @binding(3) var<storage, read> order: array<u32>;
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;

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

// grid: ceil(count / 256)
// trips: none
@compute @workgroup_size(256)
fn take(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 256u + lane;
    if i < p.count {
        taken[i] = source[(i / p.ids) * p.width + ids[i % p.ids]];
    }
}

// Every id's values in their order, one chain, in every row; `first` values of each id were added before.
// grid: ceil(count / 256), count the number of rows times that of different ids
// trips: most + 1
@compute @workgroup_size(256)
fn put_add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group_number(group, groups) + p.first_group) * 256u + lane;
    if i < p.count {
        let row = i / p.distinct;
        let at = 2u * (i % p.distinct);
        let place = row * p.width + groups_of_ids[at];
        let begin = groups_of_ids[at + 1u] + p.first;
        let end = min(groups_of_ids[at + 3u], begin + p.most);
        if begin < end {
            var sum = sums[place];
            for (var k = begin; k < end; k += 1u) {
                sum = sum + values[row * p.ids + order[k]];
            }
            sums[place] = sum;
        }
    }
}
