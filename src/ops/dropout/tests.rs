//! Dropout against the definition of its mask, element by element.

use super::{Dropout, DropoutSpec, reference};
use crate::cpu::testing::{bits, buffer};
use crate::cpu::{Cpu, Isa};
use crate::tensor::{DType, Philox, uniform};

#[test]
fn the_mask_is_the_definition() {
    let philox = Philox { seed: 7, stream: 1 << 40 | 3 };
    for p in [1e-9, 0.1, 0.5, 0.3f32 as f64, 1.0 - 1e-9] {
        let spec = DropoutSpec::new(DType::F32, 1000, p, philox.seed, philox.stream).unwrap();
        for i in 0..1000 {
            let word = philox.word(i);
            assert_eq!(spec.keeps(word), f64::from(uniform(word)) >= p);
        }
        // the bound itself
        let word = spec.threshold << 8;
        assert!(spec.threshold > 1 << 23 || f64::from(uniform(word)) >= p);
        assert!(f64::from(uniform((spec.threshold - 1) << 8)) < p);
    }
}

#[test]
fn cpu() {
    for isa in Isa::available() {
        for len in [0, 1, 3, 4, 5, 63, 64, 65, 1000, 70_001] {
            // u = p at position 0 is kept
            let bound = f64::from(uniform(Philox { seed: 5, stream: 9 }.word(0)));
            for p in [0.0, 0.25, 0.7, 1.0, bound] {
                let x: Vec<f32> = (0..len).map(|i| (i % 17) as f32 - 8.25).collect();
                let spec = DropoutSpec::new(DType::F32, len, p, 5, 9).unwrap();
                let mut right = vec![0f32; len];
                reference::forward(&spec, &x, &mut right);
                for threads in [1, 3] {
                    let cpu = Cpu::quiet().with_isa(isa).with_threads(threads);
                    let y = cpu.dropout(&spec, &buffer(&x)).unwrap();
                    assert_eq!(bits(y.slice().unwrap()), bits(&right), "{len} {p} {}", isa.name());
                }
                let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let spec = DropoutSpec::new(DType::F64, len, p, 5, 9).unwrap();
                let y = Cpu::quiet().dropout(&spec, &buffer(&wide)).unwrap();
                for (&y, &right) in y.slice::<f64>().unwrap().iter().zip(&right) {
                    assert_eq!(y == 0.0, right == 0.0);
                    assert!((y - f64::from(right)).abs() <= 1e-6 * y.abs());
                }
            }
        }
    }
}

#[test]
fn a_share_of_p_is_dropped() {
    let spec = DropoutSpec::new(DType::F32, 100_000, 0.3, 1, 1).unwrap();
    let y = Cpu::quiet().dropout(&spec, &buffer(&[1f32; 100_000])).unwrap();
    let dropped = y.slice::<f32>().unwrap().iter().filter(|&&y| y == 0.0).count();
    // five standard deviations
    assert!((dropped as f64 - 30_000.0).abs() < 5.0 * (100_000f64 * 0.21).sqrt(), "{dropped}");
}

#[test]
fn dropped_is_zero_and_identity_is_a_copy() {
    // S-28, and p = 0 changes no bit
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::from_bits(1)];
    let run = |p| {
        let spec = DropoutSpec::new(DType::F32, 5, p, 0, 0).unwrap();
        Cpu::quiet().dropout(&spec, &buffer(&odd)).unwrap().slice::<f32>().unwrap().to_vec()
    };
    assert_eq!(bits(&run(0.0)), bits(&odd));
    assert_eq!(bits(&run(1.0)), [0; 5]);
}

#[test]
fn p_is_a_probability() {
    // S-29
    for p in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(DropoutSpec::new(DType::F32, 1, p, 0, 0).is_err());
    }
    assert!(DropoutSpec::new(DType::I64, 1, 0.5, 0, 0).is_err());
}
