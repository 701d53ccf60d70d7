//! Three compiled versions of one kernel and the choice between them at run time.

/// Declares functions compiled for AVX-512, AVX2 and the portable target; the call picks what the processor has.
///
/// FMA is left out on purpose: contraction would make the versions' bits differ.
macro_rules! multiversion {
    ($( $(#[$meta:meta])* $visibility:vis fn $name:ident ( $( $argument:ident : $kind:ty ),* $(,)? ) $( -> $output:ty )? $body:block )*) => { $(
        $(#[$meta])*
        $visibility fn $name( $( $argument: $kind ),* ) $( -> $output )? {
            #[inline(always)]
            fn portable( $( $argument: $kind ),* ) $( -> $output )? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512( $( $argument: $kind ),* ) $( -> $output )? {
                    portable( $( $argument ),* )
                }
                #[target_feature(enable = "avx2")]
                fn avx2( $( $argument: $kind ),* ) $( -> $output )? {
                    portable( $( $argument ),* )
                }
                match $crate::tensor::kernels::vectors() {
                    // SAFETY: the processor has just been found to have these parts of AVX-512.
                    $crate::tensor::kernels::Vectors::Avx512 => return unsafe { avx512( $( $argument ),* ) },
                    // SAFETY: the processor has just been found to have AVX2.
                    $crate::tensor::kernels::Vectors::Avx2 => return unsafe { avx2( $( $argument ),* ) },
                    $crate::tensor::kernels::Vectors::Portable => {}
                }
            }
            portable( $( $argument ),* )
        }
    )* };
}
pub(crate) use multiversion;

/// The versions, the widest last.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Vectors {
    Portable,
    Avx2,
    Avx512,
}

/// The widest version this processor can run.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn vectors() -> Vectors {
    // Each answer is kept by the standard library: a load and a test of bits.
    let found = if std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
    {
        Vectors::Avx512
    } else if std::arch::is_x86_feature_detected!("avx2") {
        Vectors::Avx2
    } else {
        Vectors::Portable
    };
    #[cfg(test)]
    let found = found.min(WIDEST.get());
    found
}

#[cfg(all(test, target_arch = "x86_64"))]
thread_local! {
    static WIDEST: std::cell::Cell<Vectors> = const { std::cell::Cell::new(Vectors::Avx512) };
}

/// Runs something with the portable versions on this thread.
#[cfg(test)]
pub(crate) fn with_portable_kernels<T>(run: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    return with_kernels_up_to(Vectors::Portable, run);
    #[cfg(not(target_arch = "x86_64"))]
    run()
}

/// Runs something with versions no wider than that on this thread.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) fn with_kernels_up_to<T>(widest: Vectors, run: impl FnOnce() -> T) -> T {
    WIDEST.set(widest);
    let result = run();
    WIDEST.set(Vectors::Avx512);
    result
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::tensor::kernels::{math, reduce};

    multiversion! {
        fn all_functions(x: &[f32], out: &mut [f32]) {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = math::exp(x) + math::log(x) + math::sigmoid(x) * math::tanh(x) - math::erf(x);
            }
        }
    }

    #[test]
    fn every_version_gives_the_same_bits() {
        let x: Vec<f32> = (-400..700).map(|step| step as f32 * 0.013).collect();
        let run = |widest| {
            with_kernels_up_to(widest, || {
                assert!(vectors() <= widest);
                let mut out = vec![f32::NAN; x.len()];
                all_functions(&x, &mut out);
                let bits: Vec<u32> = out
                    .iter()
                    .filter(|y| !y.is_nan())
                    .map(|y| y.to_bits())
                    .collect();
                (bits, reduce::sum_all(&x).to_bits())
            })
        };
        let portable = run(Vectors::Portable);
        assert!(portable.0.len() > 600);
        assert_eq!(run(Vectors::Avx2), portable);
        assert_eq!(run(Vectors::Avx512), portable);
    }
}
