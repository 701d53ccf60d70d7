//! A word to the operating system about large arrays that are read here and there: with pages of 2 MiB the processor
//! finds a row without walking its page tables, and the array's first use costs one fault where it cost 512.
//!
//! Advice only: it changes no contents, and where it is not taken nothing happens.

/// Arrays below this gain nothing: their pages fit the processor's own table.
const BYTES_MIN: usize = 32 << 20;

/// Asks for huge pages under an array. Best before it is written for the first time.
pub fn prefer_huge_pages(values: &[f32]) {
    let bytes = size_of_val(values);
    if bytes < BYTES_MIN {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = values.as_ptr().addr().next_multiple_of(PAGE);
        let end = (values.as_ptr().addr() + bytes) / PAGE * PAGE;
        let first = values.as_ptr().with_addr(start).cast_mut().cast();
        // SAFETY: whole pages within the array; this advice changes how they are backed, never what they hold.
        // A refusal (an old kernel, a setting) is no loss.
        unsafe { libc::madvise(first, end - start, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_what_it_was_however_long() {
        for length in [0, 1, 5000, (BYTES_MIN / 4) + 12_345] {
            let mut values = vec![0.0f32; length];
            prefer_huge_pages(&values);
            values.fill(1.5);
            prefer_huge_pages(&values);
            assert!(values.iter().all(|&value| value == 1.5));
        }
    }
}
