//! Label columns to the numbers that losses compare with: those of all outputs side by side in a row.

use arrow::array::RecordBatch;

use super::TrainingError;
use crate::catalog::ModelOutput;
use crate::frames::{Classes, FrameError, gather_float};
use crate::nn::Loss;

/// How one output's label becomes numbers.
#[derive(Debug)]
struct Target {
    label: String,
    /// Numbers per row.
    width: usize,
    kind: Kind,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // one an output
enum Kind {
    Numbers,
    Class {
        classes: Classes,
        /// Whether the target is one number per class instead of the class's place.
        one_hot: bool,
    },
}

/// Those of all outputs.
#[derive(Debug)]
pub(super) struct Targets {
    each: Vec<Target>,
    /// By class, of a model of one output; empty when all weigh 1.
    class_weights: Vec<f32>,
}

impl Targets {
    /// `widths` are numbers per row of each output's targets.
    pub(super) fn new(
        outputs: &[ModelOutput],
        widths: impl Iterator<Item = usize>,
        class_weights: Vec<f32>,
    ) -> Result<Self, TrainingError> {
        let each = outputs.iter().zip(widths).map(|(output, width)| {
            let label = &output.label;
            let kind = if label.classes.is_empty() {
                Kind::Numbers
            } else {
                let data_type = label.arrow_type()?;
                let loss = Loss::parse(&output.loss).map_err(super::prepare::internal)?;
                Kind::Class {
                    classes: Classes::from_text(&label.name, &data_type, &label.classes)?,
                    one_hot: loss.one_hot(),
                }
            };
            Ok(Target {
                label: label.name.clone(),
                width,
                kind,
            })
        });
        Ok(Self {
            each: each.collect::<Result<_, TrainingError>>()?,
            class_weights,
        })
    }

    /// Whether rows weigh what their class does.
    pub(super) fn weighted(&self) -> bool {
        !self.class_weights.is_empty()
    }

    /// Adds the batch's targets, and multiplies its rows' weights by those of their classes.
    pub(super) fn add(
        &self,
        batch: &RecordBatch,
        targets: &mut Vec<f32>,
        weights: Option<&mut [f32]>,
    ) -> Result<(), FrameError> {
        if let [target] = self.each.as_slice() {
            let places = target.add(batch, targets)?;
            if let (Some(weights), true) = (weights, self.weighted()) {
                for (weight, place) in weights.iter_mut().zip(places) {
                    *weight *= self.class_weights[place as usize];
                }
            }
            return Ok(());
        }
        let start = targets.len();
        let row_width: usize = self.each.iter().map(|target| target.width).sum();
        targets.resize(start + batch.num_rows() * row_width, 0.0);
        let mut own = Vec::new();
        let mut column = 0;
        for target in &self.each {
            own.clear();
            target.add(batch, &mut own)?;
            let rows = targets[start..].chunks_exact_mut(row_width.max(1));
            for (row, numbers) in rows.zip(own.chunks_exact(target.width.max(1))) {
                row[column..column + target.width].copy_from_slice(numbers);
            }
            column += target.width;
        }
        Ok(())
    }
}

impl Target {
    /// Adds one output's targets; answers the places of the classes, where there are any.
    fn add(&self, batch: &RecordBatch, targets: &mut Vec<f32>) -> Result<Vec<i32>, FrameError> {
        let mut places = Vec::new();
        match &self.kind {
            Kind::Numbers => {
                let label = std::slice::from_ref(&self.label);
                gather_float(batch, label, self.width, targets)?;
            }
            Kind::Class { classes, one_hot } => {
                places.reserve(batch.num_rows());
                classes.indices(batch, &mut places)?;
                if *one_hot {
                    let start = targets.len();
                    let width = classes.len();
                    targets.resize(start + places.len() * width, 0.0);
                    for (row, &place) in places.iter().enumerate() {
                        targets[start + row * width + place as usize] = 1.0;
                    }
                } else {
                    targets.extend(places.iter().map(|&place| place as f32));
                }
            }
        }
        Ok(places)
    }
}
