//! The flat vectors of a model: which named array stands where, and what it starts from.
//!
//! Tables with sparse gradients stand first in the vector of parameters, whatever the order of layers, so that all other
//! parameters are one stretch.

use crate::support::huge_pages::prefer_huge_pages;
use crate::tensor::Shape;

use super::super::error::SpecError;
use super::super::initialize::Initializer;
use super::super::layer::{ArraySpec, Place};
use super::{NUMBERS_MAX, ParameterInfo, SparseTable};

/// Named arrays side by side in one vector.
#[derive(Debug, Default)]
pub(super) struct Arrays {
    pub(super) infos: Vec<ParameterInfo>,
    initializers: Vec<Initializer>,
    pub(super) len: usize,
    /// Those with sparse gradients, in the order of layers.
    pub(super) tables: Vec<SparseTable>,
    /// How many numbers they hold.
    pub(super) tables_len: usize,
}

impl Arrays {
    /// Gives arrays their names and places; refuses a vector beyond the bound before anything is allocated.
    pub(super) fn place(
        &mut self,
        layer: &str,
        arrays: Vec<ArraySpec>,
        trainable: bool,
    ) -> Result<Vec<Place>, SpecError> {
        let mut places = Vec::with_capacity(arrays.len());
        for array in arrays {
            let size = check_size(layer, &array.name, &array.shape, self.len)?;
            array.initializer.check(layer, &array.name, &array.shape)?;
            let sparse = array.sparse && trainable;
            let offset = if sparse {
                self.tables.push(SparseTable {
                    array: self.infos.len(),
                    offset: self.tables_len,
                    rows: array.shape[0],
                    width: size / array.shape[0].max(1),
                });
                self.tables_len += size;
                self.tables_len - size
            } else {
                // Counted from the end of the tables, which is known last: `settle`.
                self.len - self.tables_len
            };
            places.push(Place {
                offset,
                shape: Shape::new(&array.shape),
                trainable,
                regularizer: array.regularizer,
                sparse,
            });
            self.infos.push(ParameterInfo {
                name: format!("{layer}/{}", array.name),
                shape: array.shape,
                offset,
            });
            self.initializers.push(array.initializer);
            self.len += size;
        }
        Ok(places)
    }

    /// Moves all that is no table behind the tables, once all are known.
    pub(super) fn settle(&mut self) {
        let mut sparse = self.tables.iter().map(|table| table.array).peekable();
        for (position, info) in self.infos.iter_mut().enumerate() {
            if sparse.next_if_eq(&position).is_none() {
                info.offset += self.tables_len;
            }
        }
    }

    /// First values: a function of the seed and of each array's position, nothing else.
    pub(super) fn initial(&self, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; self.len];
        // Tables are read a row here and a row there.
        prefer_huge_pages(&values[..self.tables_len]);
        for (position, (info, initializer)) in self.infos.iter().zip(&self.initializers).enumerate()
        {
            let out = &mut values[info.offset..info.offset + info.len()];
            initializer.fill(
                &info.shape,
                seed,
                u32::try_from(position).unwrap_or(u32::MAX),
                out,
            );
        }
        values
    }
}

/// The count of numbers, if `before` and they stay within the bound.
pub(super) fn check_size(
    layer: &str,
    what: &str,
    shape: &[usize],
    before: usize,
) -> Result<usize, SpecError> {
    let size = shape
        .iter()
        .try_fold(1u64, |product, &extent| product.checked_mul(extent as u64));
    match size {
        Some(size) if size.saturating_add(before as u64) <= NUMBERS_MAX => Ok(size as usize),
        _ => Err(SpecError::TooLarge {
            layer: layer.to_string(),
            what: format!("{what} {shape:?}"),
            size: size.map_or_else(|| "more than 2^64".to_string(), |size| size.to_string()),
            limit: NUMBERS_MAX,
        }),
    }
}
