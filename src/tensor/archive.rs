//! Named arrays to and from bytes, in the safetensors layout. Does no I/O.
//!
//! Used for weights and optimiser state. The same arrays always give the same bytes: names are written in
//! order and the header has no timestamps.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::error::ArchiveError;

/// One named array: name, shape and its numbers in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedArray {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Writes named arrays as safetensors bytes, in the order of their names.
pub fn to_bytes(arrays: &[NamedArray]) -> Result<Vec<u8>, ArchiveError> {
    let mut raw: BTreeMap<&str, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for array in arrays {
        if element_count(&array.shape) != Some(array.values.len()) {
            return Err(ArchiveError::WrongLength {
                name: array.name.clone(),
                shape: array.shape.clone(),
                len: array.values.len(),
            });
        }
        let bytes = array
            .values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        if raw
            .insert(&array.name, (array.shape.clone(), bytes))
            .is_some()
        {
            return Err(ArchiveError::DuplicateName {
                name: array.name.clone(),
            });
        }
    }
    let malformed =
        |error: safetensors::SafeTensorError| ArchiveError::Malformed(error.to_string());
    let mut views = Vec::with_capacity(raw.len());
    for (name, (shape, bytes)) in &raw {
        views.push((
            *name,
            TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(malformed)?,
        ));
    }
    safetensors::serialize(views, None).map_err(malformed)
}

/// Reads safetensors bytes; arrays come in the order of their names.
pub fn from_bytes(bytes: &[u8]) -> Result<Vec<NamedArray>, ArchiveError> {
    let archive = SafeTensors::deserialize(bytes)
        .map_err(|error| ArchiveError::Malformed(error.to_string()))?;
    let mut arrays = Vec::with_capacity(archive.len());
    for (name, view) in archive.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(ArchiveError::WrongType {
                name,
                found: format!("{:?}", view.dtype()),
            });
        }
        let values: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        if element_count(view.shape()) != Some(values.len()) {
            return Err(ArchiveError::WrongLength {
                name,
                shape: view.shape().to_vec(),
                len: values.len(),
            });
        }
        arrays.push(NamedArray {
            name,
            shape: view.shape().to_vec(),
            values,
        });
    }
    arrays.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(arrays)
}

fn element_count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, &extent| product.checked_mul(extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrays() -> Vec<NamedArray> {
        vec![
            NamedArray {
                name: "dense/kernel".into(),
                shape: vec![2, 3],
                values: vec![1.0, -2.5, 0.0, 3.25, 1e-30, -0.0],
            },
            NamedArray {
                name: "dense/bias".into(),
                shape: vec![3],
                values: vec![0.5, 0.25, 0.125],
            },
            NamedArray {
                name: "step".into(),
                shape: vec![],
                values: vec![12.0],
            },
        ]
    }

    #[test]
    fn what_is_written_is_read_back_in_the_order_of_names() {
        let read = from_bytes(&to_bytes(&arrays()).unwrap()).unwrap();
        let mut expected = arrays();
        expected.sort_by(|left, right| left.name.cmp(&right.name));
        assert_eq!(read, expected);
    }

    #[test]
    fn the_same_arrays_in_any_order_give_the_same_bytes() {
        let mut reversed = arrays();
        reversed.reverse();
        assert_eq!(to_bytes(&arrays()).unwrap(), to_bytes(&reversed).unwrap());
    }

    #[test]
    fn bytes_that_are_no_archive_are_refused() {
        assert!(matches!(from_bytes(b""), Err(ArchiveError::Malformed(_))));
        assert!(matches!(
            from_bytes(&[0xff; 64]),
            Err(ArchiveError::Malformed(_))
        ));
        let mut cut = to_bytes(&arrays()).unwrap();
        cut.truncate(cut.len() - 4);
        assert!(matches!(from_bytes(&cut), Err(ArchiveError::Malformed(_))));
    }

    #[test]
    fn a_shape_that_disagrees_with_its_numbers_is_refused() {
        let wrong = NamedArray {
            name: "w".into(),
            shape: vec![usize::MAX, 2],
            values: vec![1.0],
        };
        assert!(matches!(
            to_bytes(&[wrong]),
            Err(ArchiveError::WrongLength { .. })
        ));
        let twice = vec![arrays()[0].clone(), arrays()[0].clone()];
        assert!(matches!(
            to_bytes(&twice),
            Err(ArchiveError::DuplicateName { .. })
        ));
    }
}
