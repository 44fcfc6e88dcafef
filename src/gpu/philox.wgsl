// Philox 4x32-10 (Salmon et al. 2011): the same bits as `src/tensor/random.rs`. 64-bit numbers are
// (low, high) pairs.

// The full product of two 32-bit numbers, (low, high), from four 16-bit products: WGSL has no wider type.
fn multiply_wide(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 16u);
    let cross = a0 * b1 + (middle & 0xffffu);
    return vec2<u32>((cross << 16u) | (low & 0xffffu), a1 * b1 + (middle >> 16u) + (cross >> 16u));
}

fn philox_round(x: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    let p0 = multiply_wide(0xD2511F53u, x.x);
    let p1 = multiply_wide(0xCD9E8D57u, x.z);
    return vec4<u32>(p1.y ^ x.y ^ key.x, p1.x, p0.y ^ x.w ^ key.y, p0.x);
}

// Four random words at block `block` of (seed, stream). Written out: a loop would count against the trips of
// the kernel that calls it.
fn philox(seed: vec2<u32>, stream: vec2<u32>, block: vec2<u32>) -> vec4<u32> {
    let weyl = vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    var x = vec4<u32>(block, stream);
    x = philox_round(x, seed);
    x = philox_round(x, seed + weyl);
    x = philox_round(x, seed + weyl * 2u);
    x = philox_round(x, seed + weyl * 3u);
    x = philox_round(x, seed + weyl * 4u);
    x = philox_round(x, seed + weyl * 5u);
    x = philox_round(x, seed + weyl * 6u);
    x = philox_round(x, seed + weyl * 7u);
    x = philox_round(x, seed + weyl * 8u);
    return philox_round(x, seed + weyl * 9u);
}

// A word as a number in [0, 1), a multiple of 2^-24.
fn uniform_f32(word: u32) -> f32 {
    return f32(word >> 8u) * (1.0 / 16777216.0);
}
