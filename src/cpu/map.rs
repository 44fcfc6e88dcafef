//! Element by element over one or two operands, and the splitting of a result between threads. All of it is safe to
//! call: pieces are disjoint, and lengths are checked before a kernel sees a pointer.

use super::isa::Isa;
use super::lanes::{Kernel, Lanes, launch};
use super::math::{Function, map};
use super::{Cpu, CpuBuffer, Fresh};
use crate::error::{Error, Result};
use crate::tensor::Element;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

/// Elements of one unit of simple work: some 10 µs, many times what it costs to hand it to another thread.
pub const PIECE: usize = 1 << 15;

impl Cpu<'_> {
    /// Calls `work(start, piece)` for every piece of `y` of `size` elements (the last may be shorter), on the team
    /// where there are several. `Err` is the first of them, or what `poll` said.
    pub fn pieces<T: Send>(
        &self,
        y: &mut [T],
        size: usize,
        work: impl Fn(usize, &mut [T]) -> Result<()> + Sync,
    ) -> Result<()> {
        struct Start<T>(*mut T);
        // SAFETY: the pieces are disjoint, and T may be written by another thread.
        unsafe impl<T: Send> Sync for Start<T> {}
        let (len, size, start) = (y.len(), size.max(1), Start(y.as_mut_ptr()));
        if len <= size {
            return if len > 0 { work(0, y) } else { Ok(()) };
        }
        let (start, failed) = (&start, Mutex::new(None));
        self.run(len.div_ceil(size), |unit| {
            let from = unit * size;
            // SAFETY: from < len, each unit has its own piece, and `y` is borrowed until all are done.
            let piece = unsafe { std::slice::from_raw_parts_mut(start.0.add(from), size.min(len - from)) };
            if let Err(e) = work(from, piece) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
        })?;
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Zeros, still to be written to: `Backend::zeros` for one that knows the type.
    pub fn cleared<T: Element>(&self, len: usize) -> Result<Fresh<T>> {
        let mut y = Fresh::<T>::new(len)?;
        self.pieces(&mut y, PIECE, |_, y| {
            y.fill(T::default());
            Ok(())
        })?;
        Ok(y)
    }

    /// A copy of what is given, or zeros.
    pub fn copy_or_zeros<T: Element>(&self, given: Option<&CpuBuffer>, len: usize) -> Result<Fresh<T>> {
        let Some(given) = given else { return self.cleared(len) };
        let given = given.slice::<T>()?;
        if given.len() != len {
            return Err(Error::internal(format!("{} elements for {len}", given.len())));
        }
        let mut y = Fresh::new(len)?;
        self.pieces(&mut y, PIECE, |start, y| {
            y.copy_from_slice(&given[start..][..y.len()]);
            Ok(())
        })?;
        Ok(y)
    }

    /// Changes `x` in place by what `change` makes of a copy: until then the call can end with nothing written, and
    /// what remains is to copy back in one go.
    pub fn by_copy<T: Element>(&self, x: &mut [T], change: impl FnOnce(&mut [T]) -> Result<()>) -> Result<()> {
        let mut made = Fresh::<T>::new(x.len())?;
        self.pieces(&mut made, PIECE, |start, made| {
            made.copy_from_slice(&x[start..][..made.len()]);
            Ok(())
        })?;
        change(&mut made)?;
        self.quietly().pieces(x, PIECE, |start, x| {
            x.copy_from_slice(&made[start..][..x.len()]);
            Ok(())
        })
    }

    /// y = F(x), element by element.
    pub fn map<F: Function>(&self, x: &[f32]) -> Result<Fresh<f32>> {
        let isa = self.isa()?;
        let mut y = Fresh::new(x.len())?;
        self.pieces(&mut y, PIECE, |start, y| {
            map::<F>(isa, &x[start..], y);
            Ok(())
        })?;
        Ok(y)
    }

    /// y = f(x), element by element, in plain Rust.
    pub fn map_plain<T: Element>(&self, x: &[T], f: impl Fn(T) -> T + Sync) -> Result<Fresh<T>> {
        let mut y = Fresh::new(x.len())?;
        self.pieces(&mut y, PIECE / 4, |start, y| {
            y.iter_mut().zip(&x[start..]).for_each(|(y, &x)| *y = f(x));
            Ok(())
        })?;
        Ok(y)
    }
}

/// A function of two numbers.
pub trait Function2 {
    /// Mark it `#[inline(always)]`.
    fn of<L: Lanes>(a: L, b: L) -> L;
}

/// Rows of one operand: row i begins at `data[i * step]`; it is as long as the result's, or one number for all of it.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    /// from the first row on
    pub data: &'a [T],
    /// from one row to the next
    pub step: usize,
    /// whether a row is one number
    pub one: bool,
}

impl<'a, T> Rows<'a, T> {
    /// One number for all rows.
    pub fn number(value: &'a T) -> Rows<'a, T> {
        Rows { data: std::slice::from_ref(value), step: 0, one: true }
    }

    /// Row after row without gaps.
    pub fn whole(data: &'a [T]) -> Rows<'a, T> {
        Rows { data, step: 0, one: false }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = rows.saturating_sub(1).checked_mul(self.step);
        let end = last.and_then(|last| last.checked_add(if self.one { 1 } else { columns }));
        end.is_some_and(|end| end <= self.data.len())
    }
}

/// `y[i, j] = F(a[i, j], b[i, j])` for rows of `columns`.
pub fn map2<F: Function2>(isa: Isa, a: Rows<'_, f32>, b: Rows<'_, f32>, columns: usize, y: &mut [f32]) -> Result<()> {
    let rows = checked_rows(&a, &b, columns, y)?;
    let (x, size) = ([a.data.as_ptr(), b.data.as_ptr()], [rows, columns]);
    let (step, y) = ([a.step, b.step], y.as_mut_ptr());
    // SAFETY: `checked_rows` has compared all that is read and written with the slices' lengths.
    unsafe {
        match (a.one, b.one) {
            (false, false) => launch(isa, &Map2::<F, false, false> { x, step, size, y, f: PhantomData }),
            (false, true) => launch(isa, &Map2::<F, false, true> { x, step, size, y, f: PhantomData }),
            (true, false) => launch(isa, &Map2::<F, true, false> { x, step, size, y, f: PhantomData }),
            (true, true) => launch(isa, &Map2::<F, true, true> { x, step, size, y, f: PhantomData }),
        }
    }
    Ok(())
}

/// The same in plain Rust.
pub fn map2_plain<T: Copy>(
    a: Rows<'_, T>,
    b: Rows<'_, T>,
    columns: usize,
    y: &mut [T],
    f: impl Fn(T, T) -> T,
) -> Result<()> {
    let rows = checked_rows(&a, &b, columns, y)?;
    for i in 0..rows {
        let (a_row, b_row) = (&a.data[i * a.step..], &b.data[i * b.step..]);
        let y = &mut y[i * columns..][..columns];
        match (a.one, b.one) {
            (false, false) => y.iter_mut().zip(a_row.iter().zip(b_row)).for_each(|(y, (&a, &b))| *y = f(a, b)),
            (false, true) => y.iter_mut().zip(a_row).for_each(|(y, &a)| *y = f(a, b_row[0])),
            (true, false) => y.iter_mut().zip(b_row).for_each(|(y, &b)| *y = f(a_row[0], b)),
            (true, true) => y.fill(f(a_row[0], b_row[0])),
        }
    }
    Ok(())
}

fn checked_rows<T>(a: &Rows<'_, T>, b: &Rows<'_, T>, columns: usize, y: &[T]) -> Result<usize> {
    let rows = y.len().checked_div(columns).unwrap_or(0);
    if rows * columns != y.len() || (rows > 0 && !(a.holds(rows, columns) && b.holds(rows, columns))) {
        return Err(Error::internal("an operand is shorter than the result needs"));
    }
    Ok(rows)
}

struct Map2<F, const A1: bool, const B1: bool> {
    x: [*const f32; 2],
    step: [usize; 2],
    size: [usize; 2],
    y: *mut f32,
    f: PhantomData<F>,
}

impl<F: Function2, const A1: bool, const B1: bool> Kernel for Map2<F, A1, B1> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let ([rows, columns], [a_step, b_step]) = (self.size, self.step);
        let whole = columns - columns % L::N;
        // SAFETY: `map2` has checked every row of all three.
        unsafe {
            let (mut a, mut b, mut y) = (self.x[0], self.x[1], self.y);
            let mut i = 0;
            while i < rows {
                let (a_one, b_one) =
                    (if A1 { L::splat(*a) } else { L::splat(0.0) }, if B1 { L::splat(*b) } else { L::splat(0.0) });
                let mut j = 0;
                while j < whole {
                    let av = if A1 { a_one } else { L::load(a.add(j)) };
                    let bv = if B1 { b_one } else { L::load(b.add(j)) };
                    F::of(av, bv).store(y.add(j));
                    j += L::N;
                }
                if j < columns {
                    let av = if A1 { a_one } else { L::load_first(a.add(j), columns - j) };
                    let bv = if B1 { b_one } else { L::load_first(b.add(j), columns - j) };
                    F::of(av, bv).store_first(y.add(j), columns - j);
                }
                // past the last row the pointers are not used
                (a, b, y) = (a.wrapping_add(a_step), b.wrapping_add(b_step), y.wrapping_add(columns));
                i += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sub;
    impl Function2 for Sub {
        #[inline(always)]
        fn of<L: Lanes>(a: L, b: L) -> L {
            a.sub(b)
        }
    }

    #[test]
    fn rows_and_numbers() {
        let a: Vec<f32> = (0..60).map(|i| (i * i) as f32).collect();
        let b: Vec<f32> = (0..60).map(|i| (7 * i) as f32).collect();
        for isa in Isa::available() {
            for columns in [1, 3, 8, 19] {
                for (a_one, b_one) in [(false, false), (false, true), (true, false), (true, true)] {
                    let rows = |data, one| Rows { data, step: 1, one };
                    let (a, b) = (rows(a.as_slice(), a_one), rows(b.as_slice(), b_one));
                    let (mut y, mut plain) = (vec![0f32; 5 * columns], vec![0f32; 5 * columns]);
                    map2::<Sub>(isa, a, b, columns, &mut y).unwrap();
                    map2_plain(a, b, columns, &mut plain, |a, b| a - b).unwrap();
                    assert_eq!(y, plain);
                    let j = columns - 1;
                    let at = |x: Rows<'_, f32>| x.data[3 + if x.one { 0 } else { j }];
                    assert_eq!(y[3 * columns + j], at(a) - at(b));
                }
            }
        }
    }

    #[test]
    fn a_short_operand_is_refused() {
        let x = [0f32; 7];
        let mut y = [0f32; 8];
        assert!(map2::<Sub>(Isa::PORTABLE, Rows::whole(&x), Rows::number(&1.0), 8, &mut y).is_err());
        let skewed = Rows { data: &x[..], step: 4, one: false };
        assert!(map2::<Sub>(Isa::PORTABLE, skewed, skewed, 4, &mut y).is_err());
        assert!(map2::<Sub>(Isa::PORTABLE, Rows::whole(&x), Rows::whole(&x), 3, &mut y).is_err());
    }

    #[test]
    fn pieces_cover_everything_once() {
        for threads in [1, 3] {
            for len in [0, 1, 10, 11] {
                let mut y = vec![0usize; len];
                Cpu::quiet()
                    .with_threads(threads)
                    .pieces(&mut y, 5, |start, y| {
                        y.iter_mut().enumerate().for_each(|(i, y)| *y += start + i + 1);
                        Ok(())
                    })
                    .unwrap();
                assert!(y.iter().enumerate().all(|(i, &y)| y == i + 1));
                let failing = |start, _: &mut [usize]| if start < 10 { Ok(()) } else { Err(Error::internal("no")) };
                assert_eq!(Cpu::quiet().with_threads(threads).pieces(&mut y, 5, failing).is_err(), len > 10);
            }
        }
    }
}
