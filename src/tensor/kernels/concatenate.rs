//! Joining and cutting along the innermost extent.

/// Writes one part of a concatenation: `part` (R, W) into columns `start..start + W` of `out` (R, T).
pub fn write_columns(part: &[f32], width: usize, start: usize, out: &mut [f32], total: usize) {
    for (from, to) in part.chunks_exact(width).zip(out.chunks_exact_mut(total)) {
        to[start..start + width].copy_from_slice(from);
    }
}

/// Columns `start..start + W` of `x` (R, T) as `out` (R, W).
pub fn read_columns(x: &[f32], total: usize, start: usize, out: &mut [f32], width: usize) {
    for (from, to) in x.chunks_exact(total).zip(out.chunks_exact_mut(width)) {
        to.copy_from_slice(&from[start..start + width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_cut_apart_again() {
        let (left, right) = ([1.0, 2.0], [10.0, 11.0, 20.0, 21.0]);
        let mut joined = [0.0; 6];
        write_columns(&left, 1, 0, &mut joined, 3);
        write_columns(&right, 2, 1, &mut joined, 3);
        assert_eq!(joined, [1.0, 10.0, 11.0, 2.0, 20.0, 21.0]);
        let mut cut = [0.0; 4];
        read_columns(&joined, 3, 1, &mut cut, 2);
        assert_eq!(cut, right);
    }
}
