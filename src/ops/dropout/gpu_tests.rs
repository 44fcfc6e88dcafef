//! The shader's mask against the CPU's.

use super::{Dropout, DropoutSpec};
use crate::cpu::Cpu;
use crate::cpu::testing::{bits, buffer};
use crate::gpu::testing::{down, gpu, gpu_with, up};
use crate::gpu::{Gpu, Options};
use crate::tensor::{DType, Philox, uniform};

#[test]
fn masks_are_the_cpus() {
    // S-27
    let run = |gpu: &Gpu, len: usize, p| {
        let x: Vec<f32> = (0..len).map(|i| (i % 17) as f32 - 8.25).collect();
        let spec = DropoutSpec::new(DType::F32, len, p, 0x1234_5678_9abc_def0, 1 << 40 | 9).unwrap();
        let right = Cpu::quiet().dropout(&spec, &buffer(&x)).unwrap();
        let y = down(gpu, &gpu.dropout(&spec, &up(gpu, &x)).unwrap());
        assert_eq!(bits(&y), bits(right.slice().unwrap()), "{len} {p}");
    };
    let Some(whole) = gpu() else { return };
    let bound = f64::from(uniform(Philox { seed: 0x1234_5678_9abc_def0, stream: 1 << 40 | 9 }.word(0)));
    for len in [0, 1, 3, 4, 5, 255, 256, 257, 10_000] {
        for p in [0.0, 0.25, 0.7, 1.0, bound] {
            run(&whole, len, p);
        }
    }
    let Some(small) = gpu_with(Options { binding: Some(1 << 20), ..Options::default() }) else { return };
    run(&small, 700_001, 0.5);
    // dropped is zero whatever it was (S-28)
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let spec = DropoutSpec::new(DType::F32, 3, 1.0, 0, 0).unwrap();
    assert_eq!(bits(&down(&whole, &whole.dropout(&spec, &up(&whole, &odd)).unwrap())), [0; 3]);
}
