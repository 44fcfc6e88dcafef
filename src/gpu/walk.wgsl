// Positions in strided views of six axes, the last one fastest. A step may be 0 or negative: u32 wraps.
struct Index {
    i0: u32,
    i1: u32,
    i2: u32,
    i3: u32,
    i4: u32,
    i5: u32,
}

// The index of element `i` in C order, from the sizes of all axes but the first.
fn index_of(i: u32, n1: u32, n2: u32, n3: u32, n4: u32, n5: u32) -> Index {
    let over5 = i / n5;
    let over4 = over5 / n4;
    let over3 = over4 / n3;
    let over2 = over3 / n2;
    return Index(over2 / n1, over2 % n1, over3 % n2, over4 % n3, over5 % n4, i % n5);
}

// How far from a view's first element the element at that index is.
fn offset_of(at: Index, s0: u32, s1: u32, s2: u32, s3: u32, s4: u32, s5: u32) -> u32 {
    return at.i0 * s0 + at.i1 * s1 + at.i2 * s2 + at.i3 * s3 + at.i4 * s4 + at.i5 * s5;
}
