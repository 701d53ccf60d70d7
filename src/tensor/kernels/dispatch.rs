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
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has just been found to have AVX2.
                    return unsafe { avx2( $( $argument ),* ) };
                }
            }
            portable( $( $argument ),* )
        }
    )* };
}
pub(crate) use multiversion;
