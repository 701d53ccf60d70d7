//! Two compiled versions of one kernel and the choice between them at run time.

/// Declares functions compiled for AVX2 and for the portable target; the call picks what the processor has.
///
/// FMA is left out on purpose: contraction would make the two versions' bits differ.
macro_rules! multiversion {
    ($( $(#[$meta:meta])* $visibility:vis fn $name:ident ( $( $argument:ident : $kind:ty ),* $(,)? ) $( -> $output:ty )? $body:block )*) => { $(
        $(#[$meta])*
        $visibility fn $name( $( $argument: $kind ),* ) $( -> $output )? {
            #[inline(always)]
            fn portable( $( $argument: $kind ),* ) $( -> $output )? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2( $( $argument: $kind ),* ) $( -> $output )? {
                    portable( $( $argument ),* )
                }
                if $crate::tensor::kernels::has_avx2() {
                    // SAFETY: the processor has just been found to have AVX2.
                    return unsafe { avx2( $( $argument ),* ) };
                }
            }
            portable( $( $argument ),* )
        }
    )* };
}
pub(crate) use multiversion;

/// Whether the AVX2 versions are to be used.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx2() -> bool {
    #[cfg(test)]
    if PORTABLE_ONLY.get() {
        return false;
    }
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(test)]
thread_local! {
    static PORTABLE_ONLY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs something with the portable versions on this thread.
#[cfg(test)]
pub(crate) fn with_portable_kernels<T>(run: impl FnOnce() -> T) -> T {
    PORTABLE_ONLY.set(true);
    let result = run();
    PORTABLE_ONLY.set(false);
    result
}
