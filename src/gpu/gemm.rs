//! The matrix product that operations share: any strides, a start value, long sums in chunks.

use crate::backend::Buffer;
use crate::error::{Error, Kind, Result};
use crate::gpu::{Gpu, GpuBuffer, Grid, Kernel};

/// Numbers of k in one dispatch: 23 loop trips for 16 of them in `tile`, one each in `rows`, at most 60,000.
const CHUNK: usize = 32_768;

/// A matrix in a buffer: where it starts, and the distance of neighbours along the outer axis (rows of A, columns
/// of B) and along k.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'b> {
    /// where it is
    pub buffer: &'b GpuBuffer,
    /// number of its first element
    pub start: usize,
    /// from one row of A, or column of B, to the next
    pub outer: usize,
    /// from one k to the next
    pub k: usize,
    /// from one block of k to the next: see `Product::block`
    pub k_block: isize,
}

impl<'b> Matrix<'b> {
    /// Without blocks, from the first element.
    pub fn new(buffer: &'b GpuBuffer, outer: usize, k: usize) -> Matrix<'b> {
        Matrix { buffer, start: 0, outer, k, k_block: 0 }
    }
}

/// What the sum begins with.
#[derive(Clone, Copy, Debug)]
pub enum Begin<'b> {
    /// zero
    Zero,
    /// a bias for each column
    Bias(&'b GpuBuffer),
    /// two biases for each column, their sum rounded once
    Biases(&'b GpuBuffer, &'b GpuBuffer),
    /// what C holds: continues a sum
    Continue,
}

/// One product.
#[derive(Clone, Copy, Debug)]
pub struct Product<'b> {
    /// rows of A and C
    pub m: usize,
    /// columns of B and C
    pub n: usize,
    /// length of the sums
    pub k: usize,
    /// numbers of k in a block; `k` where there are no blocks
    pub block: usize,
    /// (m, k)
    pub a: Matrix<'b>,
    /// (k, n)
    pub b: Matrix<'b>,
    /// (m, n), rows one after the other
    pub c: &'b GpuBuffer,
    /// number of the first element of C
    pub c_start: usize,
    /// what the sums begin with
    pub begin: Begin<'b>,
}

/// How many products of one shape, and how far each one's matrices lie from those of the one before.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// how many
    pub count: usize,
    /// elements from A to A
    pub a: usize,
    /// elements from B to B
    pub b: usize,
    /// elements from C to C
    pub c: usize,
}

impl Batch {
    const ONE: Batch = Batch { count: 1, a: 0, b: 0, c: 0 };
}

/// Which kernel computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// tiles through workgroup memory
    Tile,
    /// rows without workgroup memory
    Rows,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::NoUninit)]
struct Params {
    m: u32,
    n: u32,
    k_start: u32,
    k_end: u32,
    a_start: u32,
    a_row: u32,
    a_k: u32,
    a_block: u32,
    b_start: u32,
    b_column: u32,
    b_k: u32,
    b_block: u32,
    block: u32,
    c_start: u32,
    c_row: u32,
    begin: u32,
    count: u32,
    tiles: u32,
    a_next: u32,
    b_next: u32,
    c_next: u32,
    cut: [u32; 3],
}

impl Gpu<'_> {
    /// Records C = A B + begin. Bits do not depend on m.
    pub fn product(&self, p: &Product) -> Result<()> {
        self.product_by(p, Batch::ONE, self.choice()?)
    }

    /// Records a batch of products, of which `p` is the first. Bits do not depend on how many there are.
    pub fn products(&self, p: &Product, batch: Batch) -> Result<()> {
        self.product_by(p, batch, self.choice()?)
    }

    /// The kernel for this adapter. It must never depend on m, which is the batch: two kernels may round
    /// differently.
    fn choice(&self) -> Result<Choice> {
        match std::env::var("SEQCORE_GPU_GEMM").as_deref() {
            Ok("tile") => Ok(Choice::Tile),
            Ok("rows") => Ok(Choice::Rows),
            Ok("") | Err(_) => Ok(if self.is_software() { Choice::Rows } else { Choice::Tile }),
            Ok(other) => {
                Err(Error::found(Kind::Value, "SEQCORE_GPU_GEMM", "\"tile\" or \"rows\"", format_args!("{other:?}")))
            }
        }
    }

    /// By a given kernel.
    fn product_by(&self, p: &Product, batch: Batch, choice: Choice) -> Result<()> {
        if p.m == 0 || p.n == 0 || batch.count == 0 {
            return Ok(());
        }
        let params = p.checked(batch)?;
        // An absent bias is stood in for by any buffer that is only read.
        let (begin, bias_1, bias_2) = match p.begin {
            Begin::Zero => (0, p.a.buffer, p.a.buffer),
            Begin::Bias(bias) => (1, bias, p.a.buffer),
            Begin::Biases(one, two) => (2, one, two),
            Begin::Continue => (3, p.a.buffer, p.a.buffer),
        };
        let buffers = [p.a.buffer, p.b.buffer, bias_1, bias_2, p.c];
        let (kernel, height, width) = match choice {
            Choice::Tile => (Kernel::new("gpu/gemm", "tile"), 64, 64),
            Choice::Rows => {
                let across = p.n.div_ceil(4).next_power_of_two().clamp(8, 64);
                (Kernel::new("gpu/gemm", "rows").with("ACROSS", across as f64), 512 / across, 4 * across)
            }
        };
        let tiles = p.m.div_ceil(height) as u64 * p.n.div_ceil(width) as u64;
        let groups = tiles.saturating_mul(batch.count as u64);
        let mut k_start = 0;
        loop {
            let k_end = p.k.min(k_start + CHUNK);
            let trips = match choice {
                Choice::Tile => 23 * (k_end - k_start).div_ceil(16) + 1,
                Choice::Rows => k_end - k_start + 1,
            };
            // a tile takes as long where there are fewer rows and columns, and where there are few terms
            let work = groups.saturating_mul((height * width * (k_end - k_start).max(16)) as u64);
            let params = Params {
                k_start: k_start as u32,
                k_end: k_end as u32,
                begin: if k_start == 0 { begin } else { 3 },
                tiles: tiles as u32,
                ..params
            };
            self.dispatch(&kernel, &buffers, &params, Grid::new(groups).trips(trips as u64).work(work))?;
            k_start = k_end;
            if k_start >= p.k {
                return Ok(());
            }
        }
    }
}

impl Product<'_> {
    /// Parameters of the whole product, after a check that no index leaves its buffer.
    fn checked(&self, batch: Batch) -> Result<Params> {
        let block = if self.k == 0 { 1 } else { self.block };
        if block == 0 {
            return Err(Error::internal("a product with blocks of nothing"));
        }
        let others = batch.count - 1;
        let reach = |next: usize| others.checked_mul(next);
        let too_far = || Error::internal("a batch of products larger than its buffers");
        let [a, b, c] = [batch.a, batch.b, batch.c].map(reach);
        self.fits(&self.a, self.m, block, a.ok_or_else(too_far)?)?;
        self.fits(&self.b, self.n, block, b.ok_or_else(too_far)?)?;
        let bias = |bias: &GpuBuffer| bias.len() >= self.n;
        let biases = match self.begin {
            Begin::Zero | Begin::Continue => true,
            Begin::Bias(one) => bias(one),
            Begin::Biases(one, two) => bias(one) && bias(two),
        };
        let end = self.m.checked_mul(self.n).and_then(|mn| mn.checked_add(self.c_start)?.checked_add(c?));
        if !biases || end.is_none_or(|end| end > self.c.len()) {
            return Err(Error::internal("a product larger than its buffers"));
        }
        Ok(Params {
            m: self.m as u32,
            n: self.n as u32,
            k_start: 0,
            k_end: self.k as u32,
            a_start: self.a.start as u32,
            a_row: self.a.outer as u32,
            a_k: self.a.k as u32,
            a_block: self.a.k_block as u32,
            b_start: self.b.start as u32,
            b_column: self.b.outer as u32,
            b_k: self.b.k as u32,
            b_block: self.b.k_block as u32,
            block: block as u32,
            c_start: self.c_start as u32,
            c_row: self.n as u32,
            begin: 0,
            count: batch.count as u32,
            tiles: 0,
            a_next: batch.a as u32,
            b_next: batch.b as u32,
            c_next: batch.c as u32,
            cut: [0; 3],
        })
    }

    /// Checks the extreme indices, in numbers that cannot wrap.
    fn fits(&self, matrix: &Matrix, outer: usize, block: usize, others: usize) -> Result<()> {
        if self.k == 0 {
            return Ok(());
        }
        let last = |n: usize| n as i128 - 1;
        let blocks = last(self.k.div_ceil(block)) * matrix.k_block as i128;
        let inside = last(outer) * matrix.outer as i128 + last(self.k.min(block)) * matrix.k as i128;
        let start = matrix.start as i128;
        let (low, high) = (start + blocks.min(0), start + blocks.max(0) + inside + others as i128);
        if low < 0 || high >= matrix.buffer.len() as i128 {
            return Err(Error::internal("a product that reads outside its buffers"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::gpu::testing::{down, gpu, gpu_uncut, noise, up};
    use crate::tensor::DType;

    const BOTH: [Choice; 2] = [Choice::Tile, Choice::Rows];

    struct Case {
        m: usize,
        n: usize,
        k: usize,
        transposed: (bool, bool),
        biases: usize,
    }

    fn run(gpu: &Gpu, case: &Case, a: &[f32], b: &[f32], choice: Choice) -> Vec<f32> {
        let &Case { m, n, k, transposed, biases } = case;
        let (a, b) = (up(gpu, a), up(gpu, b));
        let bias = up(gpu, &noise(3, n));
        let c = gpu.allocate(DType::F32, m * n).unwrap();
        let a = if transposed.0 { Matrix::new(&a, 1, m) } else { Matrix::new(&a, k, 1) };
        let b = if transposed.1 { Matrix::new(&b, 1, n) } else { Matrix::new(&b, k, 1) };
        let begin = match biases {
            0 => Begin::Zero,
            1 => Begin::Bias(&bias),
            _ => Begin::Biases(&bias, &bias),
        };
        gpu.product_by(&Product { m, n, k, block: k, a, b, c: &c, c_start: 0, begin }, Batch::ONE, choice).unwrap();
        down(gpu, &c)
    }

    fn exact(case: &Case, a: &[f32], b: &[f32]) -> Vec<f64> {
        let &Case { m, n, k, transposed, biases } = case;
        let bias = noise(3, n);
        let mut c = Vec::new();
        for row in 0..m {
            for column in 0..n {
                let mut sum = f64::from(bias[column]) * biases as f64;
                for i in 0..k {
                    let a = a[if transposed.0 { i * m + row } else { row * k + i }];
                    let b = b[if transposed.1 { i * n + column } else { column * k + i }];
                    sum += f64::from(a) * f64::from(b);
                }
                c.push(sum);
            }
        }
        c
    }

    fn close(got: &[f32], exact: &[f64], tolerance: f64, what: &str) {
        let largest = exact.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
        for (got, exact) in got.iter().zip(exact) {
            let error = (f64::from(*got) - exact).abs() / largest;
            assert!(error <= tolerance, "{what}: {got} for {exact}, {error:.2e} of the largest");
        }
    }

    const SIZES: [(usize, usize, usize); 11] = [
        (1, 1, 1),
        (1, 65, 17),
        (8, 256, 16),
        (9, 257, 15),
        (63, 64, 33),
        (65, 63, 1),
        (64, 64, 64),
        (3, 5, 0),
        (17, 33, 7),
        (66, 32, 9),
        (33, 129, 3),
    ];

    #[test]
    fn sizes_around_the_tiles_and_all_transposes() {
        let Some(gpu) = gpu() else { return };
        for choice in BOTH {
            for (i, (m, n, k)) in SIZES.into_iter().enumerate() {
                let case = Case { m, n, k, transposed: (i % 2 == 1, i / 2 % 2 == 1), biases: i % 3 };
                let (a, b) = (noise(1, m * k), noise(2, n * k));
                let got = run(&gpu, &case, &a, &b, choice);
                close(&got, &exact(&case, &a, &b), 1e-6, &format!("{choice:?} {m} {n} {k}"));
                assert_eq!(got, run(&gpu, &case, &a, &b, choice), "twice");
            }
        }
    }

    // The row of a batch is the row alone, bit for bit.
    #[test]
    fn rows_do_not_depend_on_the_batch() {
        let Some(gpu) = gpu() else { return };
        for choice in BOTH {
            let case = Case { m: 37, n: 70, k: 129, transposed: (false, false), biases: 2 };
            let (a, b) = (noise(1, 37 * 129), noise(2, 70 * 129));
            let all = run(&gpu, &case, &a, &b, choice);
            for row in [0, 5, 36] {
                let alone = run(&gpu, &Case { m: 1, ..case }, &a[row * 129..(row + 1) * 129], &b, choice);
                assert_eq!(alone, all[row * 70..(row + 1) * 70], "{choice:?} row {row}");
            }
        }
    }

    // A product of a batch is the product alone, bit for bit, and the whole batch is one dispatch where it is not cut.
    #[test]
    fn products_do_not_depend_on_the_batch() {
        let Some(gpu) = gpu_uncut() else { return };
        let (count, m, n, k) = (70_000, 2, 3, 5);
        let (a, b) = (noise(1, count * m * k), noise(2, count * n * k));
        for choice in BOTH {
            let (at, bt, c) = (up(&gpu, &a), up(&gpu, &b), gpu.allocate(DType::F32, count * m * n + 64).unwrap());
            let (at, bt) = (Matrix::new(&at, k, 1), Matrix::new(&bt, k, 1));
            let first = Product { m, n, k, block: k, a: at, b: bt, c: &c, c_start: 0, begin: Begin::Zero };
            let batch = Batch { count, a: m * k, b: n * k, c: m * n };
            gpu.context().take_counts();
            gpu.product_by(&first, batch, choice).unwrap();
            assert_eq!(gpu.context().take_counts().dispatches, 1);
            let got = down(&gpu, &c);
            assert!(got[count * m * n..].iter().all(|v| v.is_nan()), "{choice:?} wrote past its end");
            for item in [0, 1, 40_000, count - 1] {
                let case = Case { m, n, k, transposed: (false, false), biases: 0 };
                let (a, b) = (&a[item * m * k..][..m * k], &b[item * n * k..][..n * k]);
                assert_eq!(got[item * m * n..][..m * n], run(&gpu, &case, a, b, choice), "{choice:?} {item}");
            }
            let past = Batch { count: count + 1, ..batch };
            assert_eq!(gpu.product_by(&first, past, choice).unwrap_err().kind, Kind::Internal);
        }
    }

    #[test]
    fn long_sums_go_on_in_chunks() {
        let Some(gpu) = gpu_uncut() else { return };
        for choice in BOTH {
            for k in [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 77] {
                let case = Case { m: 2, n: 3, k, transposed: (false, true), biases: 1 };
                let (a, b) = (noise(1, 2 * k), noise(2, 3 * k));
                gpu.context().take_counts();
                let got = run(&gpu, &case, &a, &b, choice);
                let counts = gpu.context().take_counts();
                // One chain of tens of thousands of additions: its rounding grows like their root.
                close(&got, &exact(&case, &a, &b), 2e-5, &format!("{choice:?} {k}"));
                assert_eq!(counts.dispatches as usize, k.div_ceil(CHUNK));
                assert_eq!(counts.submits, 1);
            }
        }
    }

    // Blocks of k from the last to the first, as weight gradients need them.
    #[test]
    fn blocks_may_run_backwards() {
        let Some(gpu) = gpu() else { return };
        let (steps, batch, m, n) = (5, 3, 4, 6);
        let (a, b) = (noise(1, steps * batch * m), noise(2, steps * batch * n));
        let mut expected = vec![0f64; m * n];
        for k in 0..steps * batch {
            for row in 0..m {
                for column in 0..n {
                    expected[row * n + column] += f64::from(a[k * m + row]) * f64::from(b[k * n + column]);
                }
            }
        }
        for choice in BOTH {
            let (a, b) = (up(&gpu, &a), up(&gpu, &b));
            let c = gpu.allocate(DType::F32, m * n).unwrap();
            let last = (steps - 1) * batch;
            let reversed = |buffer, width: usize| Matrix {
                buffer,
                start: last * width,
                outer: 1,
                k: width,
                k_block: -((batch * width) as isize),
            };
            let product = Product {
                m,
                n,
                k: steps * batch,
                block: batch,
                a: reversed(&a, m),
                b: reversed(&b, n),
                c: &c,
                c_start: 0,
                begin: Begin::Zero,
            };
            gpu.product_by(&product, Batch::ONE, choice).unwrap();
            close(&down(&gpu, &c), &expected, 1e-6, "backwards");
            let outside = Product { k: steps * batch + 1, ..product };
            assert_eq!(gpu.product_by(&outside, Batch::ONE, choice).unwrap_err().kind, Kind::Internal);
        }
    }
}
