//! Sixteen float32 numbers as one value, for each instruction set, and the choice between them at run time.
//!
//! AVX2 and AVX-512 fuse multiplication and addition and give the same bits as each other; the portable version
//! rounds in between and agrees with them to the rounding of a sum.

/// Numbers in a vector: the columns that a tile of outputs is wide.
pub(super) const WIDTH: usize = 16;

/// Most rows that a tile of any instruction set has.
pub(super) const ROWS_MAX: usize = 8;

/// Sixteen numbers. Methods are unsafe because the instruction set must be there and pointers must be readable.
pub(super) trait Vector: Copy {
    /// Which of the sixteen numbers are read.
    type Mask: Copy;
    /// Rows of a tile: as many as registers hold beside one row of the other factor.
    const ROWS: usize;
    /// Vectors that a tile is wide at most, 1 or 2.
    const VECTORS: usize;

    unsafe fn zero() -> Self;
    /// A mask of the first `count` numbers.
    unsafe fn first(count: usize) -> Self::Mask;
    unsafe fn load(from: *const f32) -> Self;
    /// Reads the masked numbers; the others are zero and their memory is not touched.
    unsafe fn load_masked(from: *const f32, mask: Self::Mask) -> Self;
    /// The one number there, sixteen times.
    unsafe fn splat(from: *const f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn subtract(self, other: Self) -> Self;
    /// `self * factor + sum`.
    unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self;
    unsafe fn store(self, to: &mut [f32; WIDTH]);
}

/// Plain Rust for any processor.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; WIDTH]);

// SAFETY of the blocks below: pointers are readable by the trait's contract.
impl Vector for Portable {
    type Mask = usize;
    const ROWS: usize = 4;
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Portable([0.0; WIDTH])
    }
    #[inline(always)]
    unsafe fn first(count: usize) -> usize {
        count
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: sixteen numbers are readable by the trait's contract.
        Portable(unsafe { from.cast::<[f32; WIDTH]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_masked(from: *const f32, mask: usize) -> Self {
        let mut numbers = [0.0; WIDTH];
        for (lane, number) in numbers.iter_mut().enumerate().take(mask) {
            // SAFETY: the masked numbers are readable by the trait's contract.
            *number = unsafe { *from.add(lane) };
        }
        Portable(numbers)
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the number is readable by the trait's contract.
        Portable([unsafe { *from }; WIDTH])
    }
    #[inline(always)]
    unsafe fn add(mut self, other: Self) -> Self {
        for (x, other) in self.0.iter_mut().zip(other.0) {
            *x += other;
        }
        self
    }
    #[inline(always)]
    unsafe fn subtract(mut self, other: Self) -> Self {
        for (x, other) in self.0.iter_mut().zip(other.0) {
            *x -= other;
        }
        self
    }
    #[inline(always)]
    unsafe fn multiply_add(self, factor: Self, mut sum: Self) -> Self {
        for ((sum, x), factor) in sum.0.iter_mut().zip(self.0).zip(factor.0) {
            *sum += x * factor;
        }
        sum
    }
    #[inline(always)]
    unsafe fn store(self, to: &mut [f32; WIDTH]) {
        *to = self.0;
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Vector, WIDTH};

    /// Two registers of eight. Six rows take twelve of the sixteen registers.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    impl Vector for Avx2 {
        type Mask = (__m256i, __m256i);
        const ROWS: usize = 6;
        const VECTORS: usize = 1;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: AVX is there by the trait's contract.
            unsafe { Avx2(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }
        #[inline(always)]
        unsafe fn first(count: usize) -> Self::Mask {
            // SAFETY: AVX2 is there by the trait's contract.
            unsafe {
                let count = _mm256_set1_epi32(count as i32);
                let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
                (
                    _mm256_cmpgt_epi32(count, low),
                    _mm256_cmpgt_epi32(count, high),
                )
            }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: AVX is there and sixteen numbers are readable by the trait's contract.
            unsafe { Avx2(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn load_masked(from: *const f32, mask: Self::Mask) -> Self {
            // SAFETY: AVX is there and the masked numbers are readable by the trait's contract; a masked load
            // touches no other memory, and `wrapping_add` may point past the end.
            unsafe {
                Avx2(
                    _mm256_maskload_ps(from, mask.0),
                    _mm256_maskload_ps(from.wrapping_add(8), mask.1),
                )
            }
        }
        #[inline(always)]
        unsafe fn splat(from: *const f32) -> Self {
            // SAFETY: AVX is there and the number is readable by the trait's contract.
            unsafe {
                let number = _mm256_set1_ps(*from);
                Avx2(number, number)
            }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the instruction set is there by the trait's contract.
            unsafe {
                Avx2(
                    _mm256_add_ps(self.0, other.0),
                    _mm256_add_ps(self.1, other.1),
                )
            }
        }
        #[inline(always)]
        unsafe fn subtract(self, other: Self) -> Self {
            // SAFETY: the instruction set is there by the trait's contract.
            unsafe {
                Avx2(
                    _mm256_sub_ps(self.0, other.0),
                    _mm256_sub_ps(self.1, other.1),
                )
            }
        }
        #[inline(always)]
        unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: FMA is there by the trait's contract.
            unsafe {
                Avx2(
                    _mm256_fmadd_ps(self.0, factor.0, sum.0),
                    _mm256_fmadd_ps(self.1, factor.1, sum.1),
                )
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: &mut [f32; WIDTH]) {
            // SAFETY: AVX is there by the trait's contract; `to` has room for both halves.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), self.0);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
            }
        }
    }

    /// One register of sixteen. Eight rows of two vectors take sixteen of the 32 registers.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    impl Vector for Avx512 {
        type Mask = __mmask16;
        const ROWS: usize = 8;
        const VECTORS: usize = 2;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: AVX-512 is there by the trait's contract.
            unsafe { Avx512(_mm512_setzero_ps()) }
        }
        #[inline(always)]
        unsafe fn first(count: usize) -> Self::Mask {
            if count >= WIDTH {
                u16::MAX
            } else {
                (1 << count) - 1
            }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: AVX-512 is there and sixteen numbers are readable by the trait's contract.
            unsafe { Avx512(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn load_masked(from: *const f32, mask: Self::Mask) -> Self {
            // SAFETY: AVX-512 is there and the masked numbers are readable by the trait's contract.
            unsafe { Avx512(_mm512_maskz_loadu_ps(mask, from)) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const f32) -> Self {
            // SAFETY: AVX-512 is there and the number is readable by the trait's contract.
            unsafe { Avx512(_mm512_set1_ps(*from)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the instruction set is there by the trait's contract.
            unsafe { Avx512(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn subtract(self, other: Self) -> Self {
            // SAFETY: the instruction set is there by the trait's contract.
            unsafe { Avx512(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: AVX-512 is there by the trait's contract.
            unsafe { Avx512(_mm512_fmadd_ps(self.0, factor.0, sum.0)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: &mut [f32; WIDTH]) {
            // SAFETY: AVX-512 is there by the trait's contract; `to` has room for sixteen numbers.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }
    }
}

/// The instruction sets there are versions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Instructions {
    Portable,
    Avx2,
    Avx512,
}

/// The best that the processor has.
#[inline]
pub(super) fn instructions() -> Instructions {
    #[cfg(target_arch = "x86_64")]
    {
        let best = if super::super::vectors() < super::super::Vectors::Avx2
            || !std::arch::is_x86_feature_detected!("fma")
        {
            Instructions::Portable
        } else if std::arch::is_x86_feature_detected!("avx512f") {
            Instructions::Avx512
        } else {
            Instructions::Avx2
        };
        #[cfg(test)]
        let best = best.min(AT_MOST.get());
        best
    }
    #[cfg(not(target_arch = "x86_64"))]
    Instructions::Portable
}

#[cfg(test)]
thread_local! {
    /// Tests hold this thread to a lesser instruction set.
    pub(super) static AT_MOST: std::cell::Cell<Instructions> = const { std::cell::Cell::new(Instructions::Avx512) };
}

/// Declares a function over any `Vector`, compiled for each instruction set; the call picks what the processor has.
macro_rules! vectorised {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident < $vector:ident > ( $( $argument:ident : $kind:ty ),* $(,)? ) $body:block) => {
        $(#[$meta])*
        $visibility fn $name( $( $argument: $kind ),* ) {
            #[inline(always)]
            fn body<$vector: $crate::tensor::kernels::convolution::vector::Vector>( $( $argument: $kind ),* ) $body

            #[cfg(target_arch = "x86_64")]
            {
                use $crate::tensor::kernels::convolution::vector::{Avx2, Avx512, Instructions, instructions};
                #[target_feature(enable = "avx512f")]
                fn avx512( $( $argument: $kind ),* ) {
                    body::<Avx512>( $( $argument ),* )
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2( $( $argument: $kind ),* ) {
                    body::<Avx2>( $( $argument ),* )
                }
                match instructions() {
                    // SAFETY: the processor has just been found to have AVX-512.
                    Instructions::Avx512 => return unsafe { avx512( $( $argument ),* ) },
                    // SAFETY: the processor has just been found to have AVX2 and FMA.
                    Instructions::Avx2 => return unsafe { avx2( $( $argument ),* ) },
                    Instructions::Portable => {}
                }
            }
            body::<$crate::tensor::kernels::convolution::vector::Portable>( $( $argument ),* )
        }
    };
}
pub(super) use vectorised;
