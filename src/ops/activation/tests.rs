//! Activations against numbers worked by hand; one row per engine.

use super::{Activation, ActivationSpec, Function, reference};
use crate::cpu::{Cpu, CpuBuffer, Fresh};
use crate::tensor::DType;

fn buffer(values: &[f32]) -> CpuBuffer {
    let mut fresh = Fresh::<f32>::new(values.len()).unwrap();
    fresh.copy_from_slice(values);
    fresh.done()
}

#[test]
fn worked_by_hand() {
    // deck E's unit: σ(0.78) (S-181); tanh(ln 2) = (4-1)/(4+1); relu's kink, NaN and -0.0 (S-116, S-117)
    assert!((reference::forward(Function::Sigmoid, 0.78f64) - 0.6856801139).abs() < 1e-9);
    assert!((reference::forward(Function::Tanh, 2f64.ln()) - 0.6).abs() < 1e-15);
    assert_eq!(reference::forward(Function::Relu, -0.0f32).to_bits(), (-0.0f32).to_bits());
    assert!(reference::forward(Function::Relu, f32::NAN).is_nan());
    assert_eq!(reference::backward(Function::Relu, 0.0f32, 7.0), 0.0);
}

#[test]
fn cpu() {
    let x = [-90.0f32, -3.5, -0.0, 0.0, 1e-20, 0.3, 2.0, 90.0, f32::INFINITY, f32::NEG_INFINITY];
    for function in [Function::Sigmoid, Function::Tanh, Function::Relu] {
        let spec = ActivationSpec::new(function, DType::F32, x.len()).unwrap();
        let y = Cpu::quiet().activation(&spec, &buffer(&x)).unwrap();
        for (&y, &x) in y.slice::<f32>().unwrap().iter().zip(&x) {
            let right = reference::forward(function, f64::from(x));
            if right.is_infinite() {
                assert_eq!(f64::from(y), right);
                continue;
            }
            assert!((f64::from(y) - right).abs() <= 3e-7 * right.abs() + 1e-37, "{function:?}({x}) = {y}");
        }
    }
}
