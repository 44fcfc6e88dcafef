//! Activations against numbers worked by hand, and the kernels against the reference; one row per engine.

use super::*;
use crate::backend::Buffer;
use crate::cpu::Cpu;
use crate::cpu::testing::{bits, buffer, engines, values};

const FUNCTIONS: [Function; 3] = [Function::Sigmoid, Function::Tanh, Function::Relu];

#[test]
fn worked_by_hand() {
    // deck 4's unit: σ(0.78) (S-181); tanh(ln 2) = (4-1)/(4+1); relu's kink, NaN and -0.0 (S-116, S-117)
    assert!((reference::forward(Function::Sigmoid, 0.78f64) - 0.6856801139).abs() < 1e-9);
    assert!((reference::forward(Function::Tanh, 2f64.ln()) - 0.6).abs() < 1e-15);
    assert_eq!(reference::forward(Function::Relu, -0.0f32).to_bits(), (-0.0f32).to_bits());
    assert!(reference::forward(Function::Relu, f32::NAN).is_nan());
    assert_eq!(reference::backward(Function::Relu, 0.0f32, 7.0), 0.0);
    assert_eq!(reference::backward(Function::Relu, f32::NAN, 7.0), 7.0);
    assert_eq!(reference::backward(Function::Sigmoid, 0.25f32, 8.0), 1.5);
    assert_eq!(reference::backward(Function::Tanh, 0.5f32, 8.0), 6.0);
}

#[test]
fn cpu_forward() {
    let x = [-90.0f32, -3.5, -0.0, 0.0, 1e-20, 0.3, 2.0, 90.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for function in FUNCTIONS {
        let spec = ActivationSpec::new(function, DType::F32, x.len()).unwrap();
        for cpu in engines() {
            let y = cpu.activation(&spec, &buffer(&x)).unwrap();
            for (&y, &x) in y.slice::<f32>().unwrap().iter().zip(&x) {
                let right = reference::forward(function, f64::from(x));
                if !right.is_finite() {
                    assert!(f64::from(y) == right || y.is_nan() && right.is_nan(), "{function:?}({x}) = {y}");
                    continue;
                }
                assert_eq!(y.is_sign_negative(), right.is_sign_negative(), "{function:?}({x})");
                assert!((f64::from(y) - right).abs() <= 3e-7 * right.abs() + 1.2e-38, "{function:?}({x}) = {y}");
            }
        }
    }
}

#[test]
fn relu_passes_the_gradient_at_nan() {
    // as PyTorch does (S-117)
    let spec = ActivationSpec::new(Function::Relu, DType::F32, 3).unwrap();
    for cpu in engines() {
        let dx = cpu.activation_backward(&spec, &buffer(&[f32::NAN, 0.0, 2.0]), &buffer(&[7.0f32; 3])).unwrap();
        assert_eq!(dx.slice::<f32>().unwrap(), [7.0, 0.0, 7.0]);
    }
}

#[test]
fn cpu_backward_has_the_references_bits() {
    for function in FUNCTIONS {
        for len in [0, 1, 7, 16, 33, 70_001] {
            let number = |i: usize, stream| {
                let word = crate::tensor::Philox { seed: 5, stream }.word(i as u64);
                crate::tensor::uniform(word) * 2.0 - 1.0
            };
            let mut y: Vec<f32> = (0..len).map(|i| number(i, 0)).collect();
            let dy: Vec<f32> = (0..len).map(|i| number(i, 1)).collect();
            if let Some(y) = y.last_mut() {
                *y = 0.0;
            }
            let spec = ActivationSpec::new(function, DType::F32, len).unwrap();
            let want: Vec<u32> =
                y.iter().zip(&dy).map(|(&y, &dy)| reference::backward(function, y, dy).to_bits()).collect();
            for cpu in engines() {
                assert_eq!(bits(&values(&cpu.activation_backward(&spec, &buffer(&y), &buffer(&dy)).unwrap())), want);
            }
        }
    }
}

#[test]
fn an_element_alone_has_the_bits_it_has_among_others() {
    let x: Vec<f32> = (0..70_001u64).map(|i| (i as f32 - 35_000.0) * 3.1e-4).collect();
    for function in FUNCTIONS {
        let spec = |len| ActivationSpec::new(function, DType::F32, len).unwrap();
        let whole = bits(&values(&Cpu::quiet().activation(&spec(x.len()), &buffer(&x)).unwrap()));
        for i in [0, 17, 33_333, 70_000] {
            let alone = Cpu::quiet().with_threads(1).activation(&spec(1), &buffer(&x[i..=i])).unwrap();
            assert_eq!(bits(&values(&alone)), [whole[i]]);
        }
    }
}

#[test]
fn cpu_f64_is_the_reference() {
    let x = [-3.0f64, 0.0, 0.5];
    for function in FUNCTIONS {
        let spec = ActivationSpec::new(function, DType::F64, 3).unwrap();
        let y = Cpu::quiet().activation(&spec, &buffer(&x)).unwrap();
        assert_eq!(y.slice::<f64>().unwrap(), x.map(|x| reference::forward(function, x)));
        let dx = Cpu::quiet().activation_backward(&spec, &y, &buffer(&[2.0f64; 3])).unwrap();
        assert_eq!(dx.len(), 3);
    }
    assert!(ActivationSpec::new(Function::Relu, DType::I64, 1).is_err());
}
