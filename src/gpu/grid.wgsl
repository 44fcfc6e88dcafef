// The number of a workgroup in a one-dimensional grid. A dimension holds at most 65,535 groups, so the host
// spills into y; the last row may be longer than needed: compare with the number of groups wanted.
fn group_number(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}
