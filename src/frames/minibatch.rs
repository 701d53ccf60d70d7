//! Decoded rows as row-major matrices, and a lane's part of each minibatch cut out of them.
//!
//! Knows no Arrow, no model and no servers; the order of rows comes from the data plan.

use std::ops::Range;

/// What one kind of matrix of a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixKind {
    Float32,
    Int32,
}

/// The matrices that rows are decoded into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowShape {
    /// Kind and numbers per row of each input matrix.
    pub inputs: Vec<(MatrixKind, usize)>,
    /// Numbers per row of the target.
    pub target_width: usize,
    /// Whether rows have weights.
    pub weighted: bool,
}

impl RowShape {
    /// Bytes of one decoded row.
    pub fn row_bytes(&self) -> u64 {
        let width: usize = self.inputs.iter().map(|(_, width)| width).sum();
        4 * (width + self.target_width + usize::from(self.weighted)) as u64
    }
}

/// A (rows, width) row-major matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Matrix {
    Float32 { width: usize, values: Vec<f32> },
    Int32 { width: usize, values: Vec<i32> },
}

/// Rows as a model takes them: input matrices, target and, where there are any, weights.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedRows {
    pub rows: usize,
    pub inputs: Vec<Matrix>,
    pub target: Vec<f32>,
    pub target_width: usize,
    pub weights: Option<Vec<f32>>,
}

impl DecodedRows {
    /// No rows yet, with room for so many.
    pub fn with_capacity(shape: &RowShape, rows: usize) -> Self {
        let matrix = |&(kind, width): &(MatrixKind, usize)| match kind {
            MatrixKind::Float32 => Matrix::Float32 {
                width,
                values: Vec::with_capacity(rows * width),
            },
            MatrixKind::Int32 => Matrix::Int32 {
                width,
                values: Vec::with_capacity(rows * width),
            },
        };
        Self {
            rows: 0,
            inputs: shape.inputs.iter().map(matrix).collect(),
            target: Vec::with_capacity(rows * shape.target_width),
            target_width: shape.target_width,
            weights: shape.weighted.then(|| Vec::with_capacity(rows)),
        }
    }

    /// Forgets the rows and keeps the room.
    pub fn clear(&mut self) {
        self.rows = 0;
        for matrix in &mut self.inputs {
            match matrix {
                Matrix::Float32 { values, .. } => values.clear(),
                Matrix::Int32 { values, .. } => values.clear(),
            }
        }
        self.target.clear();
        if let Some(weights) = &mut self.weights {
            weights.clear();
        }
    }

    /// Adds a contiguous stretch of other rows of the same shape.
    pub fn append(&mut self, other: &DecodedRows, rows: Range<usize>) {
        self.extend(
            other,
            |values, width, into| {
                into.extend_from_slice(&values[rows.start * width..rows.end * width]);
            },
            |values, width, into| {
                into.extend_from_slice(&values[rows.start * width..rows.end * width]);
            },
        );
        self.rows += rows.len();
    }

    /// Adds rows of another, of the same shape, by their numbers.
    pub fn gather(&mut self, other: &DecodedRows, rows: &[u32]) {
        self.extend(
            other,
            |values, width, into| {
                gather_rows(values, width, rows, into);
            },
            |values, width, into| {
                gather_rows(values, width, rows, into);
            },
        );
        self.rows += rows.len();
    }

    fn extend(
        &mut self,
        other: &DecodedRows,
        floats: impl Fn(&[f32], usize, &mut Vec<f32>),
        integers: impl Fn(&[i32], usize, &mut Vec<i32>),
    ) {
        assert_eq!(self.inputs.len(), other.inputs.len(), "rows of one shape");
        for pair in self.inputs.iter_mut().zip(&other.inputs) {
            match pair {
                (
                    Matrix::Float32 {
                        width,
                        values: into,
                    },
                    Matrix::Float32 {
                        width: other_width,
                        values,
                    },
                ) if width == other_width => floats(values, *width, into),
                (
                    Matrix::Int32 {
                        width,
                        values: into,
                    },
                    Matrix::Int32 {
                        width: other_width,
                        values,
                    },
                ) if width == other_width => integers(values, *width, into),
                _ => panic!("rows of one job have one shape"),
            }
        }
        floats(&other.target, self.target_width, &mut self.target);
        if let (Some(into), Some(weights)) = (&mut self.weights, &other.weights) {
            floats(weights, 1, into);
        }
    }
}

fn gather_rows<T: Copy>(values: &[T], width: usize, rows: &[u32], into: &mut Vec<T>) {
    into.reserve(rows.len() * width);
    if width == 1 {
        into.extend(rows.iter().map(|&row| values[row as usize]));
        return;
    }
    for &row in rows {
        let first = row as usize * width;
        into.extend_from_slice(&values[first..first + width]);
    }
}

/// A lane's place in its stream of windows: rows decoded in the order in which they are met.
#[derive(Debug, Default)]
pub struct WindowCursor {
    current: Option<DecodedRows>,
    position: usize,
}

impl WindowCursor {
    /// Adds the next `rows` rows of the stream to `into`; `next` takes back the window that is used up, so that its room
    /// can be used again, and brings the one that follows, or `None` at the end.
    /// Returns the rows added: fewer than asked for only at the end of the stream.
    pub fn take<E>(
        &mut self,
        rows: usize,
        into: &mut DecodedRows,
        mut next: impl FnMut(Option<DecodedRows>) -> Result<Option<DecodedRows>, E>,
    ) -> Result<usize, E> {
        let mut taken = 0;
        while taken < rows {
            let used_up = |window: &DecodedRows| window.rows == self.position;
            if self.current.as_ref().is_none_or(used_up) {
                self.current = next(self.current.take())?;
                self.position = 0;
            }
            let Some(window) = &self.current else {
                break;
            };
            let end = window.rows.min(self.position + rows - taken);
            into.append(window, self.position..end);
            taken += end - self.position;
            self.position = end;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(first: usize, count: usize) -> DecodedRows {
        DecodedRows {
            rows: count,
            inputs: vec![
                Matrix::Float32 {
                    width: 2,
                    values: (first..first + count)
                        .flat_map(|row| [row as f32, row as f32 + 0.5])
                        .collect(),
                },
                Matrix::Int32 {
                    width: 1,
                    values: (first..first + count).map(|row| row as i32).collect(),
                },
            ],
            target: (first..first + count).map(|row| -(row as f32)).collect(),
            target_width: 1,
            weights: Some(
                (first..first + count)
                    .map(|row| 10.0 * row as f32)
                    .collect(),
            ),
        }
    }

    fn shape() -> RowShape {
        RowShape {
            inputs: vec![(MatrixKind::Float32, 2), (MatrixKind::Int32, 1)],
            target_width: 1,
            weighted: true,
        }
    }

    #[test]
    fn rows_are_gathered_by_number_with_everything_that_is_theirs() {
        let mut found = DecodedRows::with_capacity(&shape(), 2);
        found.gather(&rows(0, 10), &[7, 3]);
        let mut expected = DecodedRows::with_capacity(&shape(), 2);
        expected.append(&rows(7, 1), 0..1);
        expected.append(&rows(0, 10), 3..4);
        assert_eq!(found, expected);
        assert_eq!(found.target, [-7.0, -3.0]);
        found.clear();
        assert_eq!(found, DecodedRows::with_capacity(&shape(), 0));
        assert_eq!(shape().row_bytes(), 20);
    }

    #[test]
    fn a_minibatch_may_span_windows_and_the_end_is_told() {
        let mut windows = vec![rows(10, 2), rows(0, 3)];
        let mut used = Vec::new();
        let mut next = |window| {
            used.extend(window);
            Ok::<_, ()>(windows.pop())
        };
        let mut cursor = WindowCursor::default();
        let mut taken = Vec::new();
        for asked in [2, 2, 2] {
            let mut part = DecodedRows::with_capacity(&shape(), 2);
            let count = cursor.take(asked, &mut part, &mut next).unwrap();
            assert_eq!(count, part.rows);
            taken.push(part.target.iter().map(|value| -value).collect::<Vec<f32>>());
        }
        assert_eq!(taken, [vec![0.0, 1.0], vec![2.0, 10.0], vec![11.0]]);
        assert_eq!(used, [rows(0, 3), rows(10, 2)]);
    }
}
