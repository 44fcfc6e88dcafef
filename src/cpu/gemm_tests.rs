//! Products against plain chains: equal bits where products are fused, 2e-6 on the portable path.

use super::*;
use crate::cpu::Isa;
use crate::cpu::testing::asked;

/// Small integers over a power of two, by a linear congruence: the same on every machine.
pub fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 9) as f32 / 4_194_304.0) - 1.0
        })
        .collect()
}

fn same(isa: Isa, got: &[f32], want: &[f32], what: &str) {
    let scale = want.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let ok = if isa.fused() { g.to_bits() == w.to_bits() } else { (g - w).abs() <= 2e-6 * scale };
        assert!(ok, "{what} on {}: element {i}: {g:e}, not {w:e}", isa.name());
    }
}

const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (1, 300, 17),
    (2, 63, 5),
    (7, 65, 33),
    (5, 31, 128),
    (13, 129, 1),
    (250, 70, 19),
    (64, 128, 96),
    (500, 200, 64),
];

#[test]
fn products_are_single_ascending_chains() {
    for isa in Isa::available() {
        for threads in [1, 3] {
            let cpu = Cpu::quiet().with_isa(isa).with_threads(threads);
            for (m, n, k) in SIZES {
                let (x, w, bias) = (numbers(m * k, 1), numbers(n * k, 2), numbers(n, 3));
                let mut want = vec![0f32; m * n];
                for i in 0..m {
                    for j in 0..n {
                        want[i * n + j] = (0..k).fold(bias[j], |acc, q| x[i * k + q].mul_add(w[j * k + q], acc));
                    }
                }
                let panels = Panels::transposed(&cpu, &w, n, k).unwrap();
                let mut y = vec![f32::NAN; m * n];
                product(&cpu, &x, m, &panels, Start::Row(&bias), &mut y).unwrap();
                same(isa, &y, &want, "x Wᵀ + b");

                let mut turned = vec![0f32; n * k];
                for j in 0..n {
                    for q in 0..k {
                        turned[q * n + j] = w[j * k + q];
                    }
                }
                let panels = Panels::straight(&cpu, &turned, k, n).unwrap();
                for row in y.chunks_mut(n) {
                    row.copy_from_slice(&bias);
                }
                product(&cpu, &x, m, &panels, Start::Output, &mut y).unwrap();
                same(isa, &y, &want, "continued");
            }
        }
    }
}

#[test]
fn joined_chains() {
    for isa in Isa::available() {
        let cpu = Cpu::quiet().with_isa(isa).with_threads(2);
        for chains in 1..=4usize {
            for (m, n, k) in SIZES {
                let terms = k * chains;
                let (a, b) = (numbers(m * terms, 4), numbers(terms * n, 5));
                let mut want = vec![0f32; m * n];
                for i in 0..m {
                    for j in 0..n {
                        let c: Vec<f32> = (0..chains)
                            .map(|c| {
                                (c * k..(c + 1) * k).fold(0f32, |acc, q| a[i * terms + q].mul_add(b[q * n + j], acc))
                            })
                            .collect();
                        want[i * n + j] = match c[..] {
                            [a] => a,
                            [a, b] => a + b,
                            [a, b, c] => (a + b) + c,
                            _ => (c[0] + c[1]) + (c[2] + c[3]),
                        };
                    }
                }
                let panels = Panels::straight(&cpu, &b, terms, n).unwrap();
                let mut out = vec![f32::NAN; m * n];
                product_joined(&cpu, &a, m, &panels, chains, &mut out).unwrap();
                same(isa, &out, &want, "joined");
            }
        }
    }
}

#[test]
fn weight_gradients_walk_steps_backwards() {
    for isa in Isa::available() {
        for threads in [1, 3] {
            let cpu = Cpu::quiet().with_isa(isa).with_threads(threads);
            for (n, k, first, second) in [
                (1, 1, (1, 1), (0, 3)),
                (37, 21, (5, 3), (1, 3)),
                (64, 130, (201, 2), (1, 2)),
                (90, 330, (530, 1), (3, 1)),
                (100, 64, (1, 999), (2, 7)),
            ] {
                let rows = |(steps, batch): (usize, usize)| steps * batch;
                let (dy1, x1) = (numbers(rows(first) * n, 1), numbers(rows(first) * k, 2));
                let (dy2, x2) = (numbers(rows(second) * n, 3), numbers(rows(second) * k, 4));
                let segments = [
                    Segment { dy: &dy1, x: &x1, steps: first.0, batch: first.1 },
                    Segment { dy: &dy2, x: &x2, steps: second.0, batch: second.1 },
                ];
                for from_zero in [true, false] {
                    let (mut dw, mut db) = (numbers(n * k, 6), numbers(n, 7));
                    let (mut want_w, mut want_b) = (dw.clone(), db.clone());
                    if from_zero {
                        want_w.fill(0.0);
                        want_b.fill(0.0);
                    }
                    for s in &segments {
                        for t in (0..s.steps).rev() {
                            for b in 0..s.batch {
                                let at = t * s.batch + b;
                                for i in 0..n {
                                    want_b[i] += s.dy[at * n + i];
                                    for j in 0..k {
                                        let w = &mut want_w[i * k + j];
                                        *w = s.dy[at * n + i].mul_add(s.x[at * k + j], *w);
                                    }
                                }
                            }
                        }
                    }
                    accumulate(&cpu, &segments, (n, k), from_zero, &mut dw, Some(&mut db)).unwrap();
                    same(isa, &dw, &want_w, "dW");
                    same(isa, &db, &want_b, "db");
                }
            }
        }
    }
}

#[test]
fn wrong_sizes_are_errors_and_empty_products_work() {
    let cpu = Cpu::quiet();
    let panels = Panels::transposed(&cpu, &[1.0; 6], 2, 3).unwrap();
    assert!(Panels::transposed(&cpu, &[1.0; 5], 2, 3).is_err());
    assert!(product(&cpu, &[1.0; 5], 2, &panels, Start::Zero, &mut [0.0; 4]).is_err());
    assert!(product(&cpu, &[1.0; 6], 2, &panels, Start::Row(&[0.0]), &mut [0.0; 4]).is_err());
    product(&cpu, &[], 0, &panels, Start::Zero, &mut []).unwrap();
    let empty = Panels::straight(&cpu, &[], 0, 2).unwrap();
    let mut out = [5.0f32; 4];
    product(&cpu, &[], 2, &empty, Start::Row(&[1.0, 2.0]), &mut out).unwrap();
    assert_eq!(out, [1.0, 2.0, 1.0, 2.0]);
    let mut dw = [7.0f32; 6];
    accumulate(&cpu, &[], (2, 3), true, &mut dw, None).unwrap();
    assert_eq!(dw, [0.0; 6]);
}

#[test]
fn chains_in_parts_are_the_same_chains() {
    for isa in Isa::available() {
        let cpu = Cpu::quiet().with_isa(isa).with_threads(3);
        for (m, n, k) in [(1, 1, PART + 1), (3, 2, 2 * PART), (2, 4, 2 * PART + 700)] {
            let (x, w, bias) = (numbers(m * k, 1), numbers(n * k, 2), numbers(n, 3));
            for transposed in [true, false] {
                let right = Right { data: &w, k, n, transposed };
                let (mut whole, mut parts) = (vec![0f32; m * n], vec![f32::NAN; m * n]);
                product(&cpu, &x, m, &right.packed(&cpu).unwrap(), Start::Row(&bias), &mut whole).unwrap();
                product_in_parts(&cpu, &x, m, &right, Start::Row(&bias), &mut parts).unwrap();
                assert_eq!(whole, parts, "{} {m} {n} {k}", isa.name());
            }
        }
    }
}

/// Chains longer than what is done in one go, and panels that are packed in several.
#[test]
fn long_chains_are_cut_and_go_on() {
    let (m, n, k) = (3, 70, TERMS + 19);
    let (x, w, bias) = (numbers(m * k, 1), numbers(n * k, 2), numbers(n, 3));
    let chain = |i: usize, j: usize, begin| (0..k).fold(begin, |acc, q| x[i * k + q].mul_add(w[j * k + q], acc));
    let want: Vec<f32> = (0..m * n).map(|at| chain(at / n, at % n, bias[at % n])).collect();
    let turned: Vec<f32> = (0..k * n).map(|at| w[at % n * k + at / n]).collect();
    for isa in Isa::available().into_iter().filter(|isa| isa.fused()) {
        for threads in [1, 3] {
            let cpu = Cpu::quiet().with_isa(isa).with_threads(threads);
            for panels in [Panels::transposed(&cpu, &w, n, k).unwrap(), Panels::straight(&cpu, &turned, k, n).unwrap()]
            {
                for rows in [1, m] {
                    let mut y = vec![f32::NAN; rows * n];
                    product(&cpu, &x[..rows * k], rows, &panels, Start::Row(&bias), &mut y).unwrap();
                    same(isa, &y, &want[..rows * n], "a long chain");
                }
            }
        }
    }
}

#[test]
fn long_work_asks_whether_to_stop() {
    let (k, n) = (1 << 18, 40);
    let w = vec![1f32; k * n];
    // 40 MB, one panel
    let times = asked(|cpu| Panels::transposed(cpu, &w, n, k).map(drop));
    assert!(times > 20, "{times} times while rows were packed");
    let times = asked(|cpu| Panels::straight(cpu, &w, k, n).map(drop));
    assert!(times > 20, "{times} times while columns were packed");
    let (x, mut y) = (vec![1f32; 24 * k], vec![0f32; 24 * n]);
    let panels = Panels::straight(&Cpu::quiet(), &w, k, n).unwrap();
    let times = asked(|cpu| product(cpu, &x, 24, &panels, Start::Zero, &mut y));
    assert!(times > 2, "{times} times in a product");
    assert!(y.iter().all(|&y| y == k as f32));
}
