//! Rows of a table by index, the sum of gradients back into them, and one-hot rows.

/// An index outside its table: where it stood and what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange {
    pub position: usize,
    pub index: i64,
}

/// How many rows ahead `gather` asks for memory.
const AHEAD: usize = 12;

/// Asks for numbers that are read soon to be brought into the cache; changes nothing else.
#[inline]
pub fn ask_for(numbers: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in numbers.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has it, and it reads nothing that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = numbers;
}

/// `out[i] = table[indices[i]]`: table (V, D), indices (N) to (N, D).
pub fn gather(
    table: &[f32],
    width: usize,
    indices: &[i32],
    out: &mut [f32],
) -> Result<(), OutOfRange> {
    for (position, (&index, out)) in indices.iter().zip(out.chunks_exact_mut(width)).enumerate() {
        if let Some(&soon) = indices.get(position + AHEAD)
            && let Ok(row) = row_of(table, width, position, soon)
        {
            ask_for(row);
        }
        out.copy_from_slice(row_of(table, width, position, index)?);
    }
    Ok(())
}

/// `out[indices[i]] += rows[i]` from zero, in the order of the indices: rows (N, D) to (V, D).
pub fn scatter_add(
    indices: &[i32],
    rows: &[f32],
    width: usize,
    out: &mut [f32],
) -> Result<(), OutOfRange> {
    out.fill(0.0);
    for (position, (&index, row)) in indices.iter().zip(rows.chunks_exact(width)).enumerate() {
        let out_of_range = OutOfRange {
            position,
            index: i64::from(index),
        };
        let start = usize::try_from(index)
            .map_err(|_| out_of_range)?
            .saturating_mul(width);
        let target = out
            .get_mut(start..start.saturating_add(width))
            .ok_or(out_of_range)?;
        for (target, &value) in target.iter_mut().zip(row) {
            *target += value;
        }
    }
    Ok(())
}

/// One row of zeros per class index with a 1 at the class: classes (N) to (N, C). Indices are whole float32 numbers.
pub fn one_hot(classes: &[f32], width: usize, out: &mut [f32]) -> Result<(), OutOfRange> {
    out.fill(0.0);
    for (position, (&class, out)) in classes.iter().zip(out.chunks_exact_mut(width)).enumerate() {
        // A NaN or a fraction has no class; `as` saturates, so huge numbers fall outside too.
        let index = class as i64;
        let whole = index as f32 == class && class >= 0.0;
        let place = usize::try_from(index)
            .ok()
            .filter(|_| whole)
            .and_then(|index| out.get_mut(index));
        *place.ok_or(OutOfRange { position, index })? = 1.0;
    }
    Ok(())
}

fn row_of(table: &[f32], width: usize, position: usize, index: i32) -> Result<&[f32], OutOfRange> {
    let start = usize::try_from(index)
        .ok()
        .and_then(|index| index.checked_mul(width));
    start
        .and_then(|start| table.get(start..start.checked_add(width)?))
        .ok_or(OutOfRange {
            position,
            index: i64::from(index),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_by_index_and_their_gradients_summed_back() {
        let table = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0];
        let mut out = [0.0; 6];
        gather(&table, 2, &[2, 0, 2], &mut out).unwrap();
        assert_eq!(out, [20.0, 21.0, 0.0, 1.0, 20.0, 21.0]);
        let mut gradient = [f32::NAN; 6];
        scatter_add(
            &[2, 0, 2],
            &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            2,
            &mut gradient,
        )
        .unwrap();
        assert_eq!(gradient, [3.0, 4.0, 0.0, 0.0, 6.0, 8.0]);
    }

    #[test]
    fn an_index_outside_the_table_is_named() {
        let mut out = [0.0; 4];
        assert_eq!(
            gather(&[0.0; 4], 2, &[1, 2], &mut out),
            Err(OutOfRange {
                position: 1,
                index: 2
            })
        );
        assert_eq!(
            gather(&[0.0; 4], 2, &[-1, 0], &mut out),
            Err(OutOfRange {
                position: 0,
                index: -1
            })
        );
        assert_eq!(
            scatter_add(&[0, 5], &[0.0; 4], 2, &mut out),
            Err(OutOfRange {
                position: 1,
                index: 5
            })
        );
    }

    #[test]
    fn classes_become_rows_with_a_single_one() {
        let mut out = [f32::NAN; 6];
        one_hot(&[2.0, 0.0], 3, &mut out).unwrap();
        assert_eq!(out, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        for bad in [3.0, -1.0, 0.5, f32::NAN, 1e20] {
            assert_eq!(
                one_hot(&[0.0, bad], 3, &mut out).unwrap_err().position,
                1,
                "{bad}"
            );
        }
    }
}
