//! One file per layer. The table below is the whole vocabulary.

pub(super) mod activation;
mod activation_layers;
mod attention;
mod axes;
mod dense;
mod embedding;
mod flatten;
mod highway;
pub(super) mod input;
mod masks;
mod maxout_dense;
mod merging;
mod noise;
mod normalization;
mod recurrent;
mod shaping;
mod wrappers;

use serde_json::{Map, Value};

use super::error::SpecError;
use super::layer::Layer;
use super::options::Options;
use super::regularize::Regularizer;
use merging::{Merge, Rule};
use recurrent::{Cell, Recurrent};
use shaping::{Cropping, Grid, UpSampling, ZeroPadding};

type Constructor = fn(&mut Options<'_>) -> Result<Box<dyn Layer>, SpecError>;

const LAYERS: &[(&str, Constructor)] = &[
    ("Input", |options| boxed(input::Input::read(options))),
    ("Dense", |options| boxed(dense::Dense::read(options))),
    ("Highway", |options| boxed(highway::Highway::read(options))),
    ("MaxoutDense", |options| {
        boxed(maxout_dense::MaxoutDense::read(options))
    }),
    ("Embedding", |options| {
        boxed(embedding::Embedding::read(options))
    }),
    ("Activation", |options| {
        boxed(activation_layers::Fixed::named(options))
    }),
    ("Flatten", |options| boxed(flatten::Flatten::read(options))),
    // One signal, number by number or along axes.
    ("ReLU", |options| {
        boxed(activation_layers::Fixed::rectifier(options))
    }),
    ("LeakyReLU", |options| {
        boxed(activation_layers::Fixed::leaky(options))
    }),
    ("ELU", |options| {
        boxed(activation_layers::Fixed::exponential(options))
    }),
    ("PReLU", |options| {
        boxed(activation_layers::PReLU::read(options))
    }),
    ("Softmax", |options| {
        boxed(activation_layers::Softmax::read(options))
    }),
    // Random numbers in training.
    ("Dropout", |options| boxed(noise::Dropout::read(options))),
    ("GaussianNoise", |options| {
        boxed(noise::GaussianNoise::read(options))
    }),
    ("GaussianDropout", |options| {
        boxed(noise::GaussianDropout::read(options))
    }),
    ("AlphaDropout", |options| {
        boxed(noise::AlphaDropout::read(options))
    }),
    ("SpatialDropout1D", |options| {
        let grid = Grid::channels_last(1);
        boxed(noise::SpatialDropout::read(options, grid))
    }),
    ("SpatialDropout2D", |options| {
        let grid = Grid::read(options, 2)?;
        boxed(noise::SpatialDropout::read(options, grid))
    }),
    ("SpatialDropout3D", |options| {
        let grid = Grid::read(options, 3)?;
        boxed(noise::SpatialDropout::read(options, grid))
    }),
    // To a common size.
    ("BatchNormalization", |options| {
        boxed(normalization::BatchNormalization::read(options))
    }),
    ("LayerNormalization", |options| {
        boxed(normalization::LayerNormalization::read(options))
    }),
    ("GroupNormalization", |options| {
        boxed(normalization::GroupNormalization::read(options))
    }),
    ("RMSNormalization", |options| {
        boxed(normalization::RMSNormalization::read(options))
    }),
    ("UnitNormalization", |options| {
        boxed(normalization::UnitNormalization::read(options))
    }),
    // Several inputs to one.
    ("Concatenate", |options| {
        boxed(merging::Concatenate::read(options))
    }),
    ("Dot", |options| boxed(merging::Dot::read(options))),
    ("Add", |_| boxed(Ok(Merge::new(Rule::Add)))),
    ("Subtract", |_| boxed(Ok(Merge::new(Rule::Subtract)))),
    ("Multiply", |_| boxed(Ok(Merge::new(Rule::Multiply)))),
    ("Average", |_| boxed(Ok(Merge::new(Rule::Average)))),
    ("Maximum", |_| boxed(Ok(Merge::new(Rule::Maximum)))),
    ("Minimum", |_| boxed(Ok(Merge::new(Rule::Minimum)))),
    // The same numbers in other places, and which steps count.
    ("Reshape", |options| boxed(shaping::Reshape::read(options))),
    ("Permute", |options| boxed(shaping::Permute::read(options))),
    ("RepeatVector", |options| {
        boxed(shaping::RepeatVector::read(options))
    }),
    ("Masking", |options| boxed(shaping::Masking::read(options))),
    ("Cropping1D", |options| {
        let grid = Grid::channels_last(1);
        boxed(Cropping::read(options, grid))
    }),
    ("Cropping2D", |options| {
        let grid = Grid::read(options, 2)?;
        boxed(Cropping::read(options, grid))
    }),
    ("Cropping3D", |options| {
        let grid = Grid::read(options, 3)?;
        boxed(Cropping::read(options, grid))
    }),
    ("ZeroPadding1D", |options| {
        let grid = Grid::read(options, 1)?;
        boxed(ZeroPadding::read(options, grid))
    }),
    ("ZeroPadding2D", |options| {
        let grid = Grid::read(options, 2)?;
        boxed(ZeroPadding::read(options, grid))
    }),
    ("ZeroPadding3D", |options| {
        let grid = Grid::read(options, 3)?;
        boxed(ZeroPadding::read(options, grid))
    }),
    ("UpSampling1D", |options| {
        let grid = Grid::channels_last(1);
        boxed(UpSampling::read(options, grid))
    }),
    ("UpSampling2D", |options| {
        let grid = Grid::read(options, 2)?;
        boxed(UpSampling::read(options, grid))
    }),
    ("UpSampling3D", |options| {
        let grid = Grid::read(options, 3)?;
        boxed(UpSampling::read(options, grid))
    }),
    // Along a sequence.
    ("SimpleRNN", |options| {
        boxed(Recurrent::read(options, Cell::Simple))
    }),
    ("LSTM", |options| {
        boxed(Recurrent::read(options, Cell::Long))
    }),
    ("GRU", |options| {
        boxed(Recurrent::read(options, Cell::Gated { reset_after: true }))
    }),
    // Layers that apply another layer.
    ("Bidirectional", |options| {
        boxed(wrappers::Bidirectional::read(options))
    }),
    ("TimeDistributed", |options| {
        boxed(wrappers::TimeDistributed::read(options))
    }),
    // Attention.
    ("MultiHeadAttention", |options| {
        boxed(attention::MultiHeadAttention::read(options))
    }),
    ("Attention", |options| {
        boxed(attention::Attention::read(options))
    }),
];

/// A layer and the options that every layer has.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) layer: Box<dyn Layer>,
    /// `false` keeps its arrays as they start (`trainable`).
    pub(super) trainable: bool,
    /// A penalty on its output (`activity_regularizer`).
    pub(super) activity_regularizer: Option<Regularizer>,
}

/// Reads one layer's description, refusing unknown layers and options by name.
pub(super) fn read(
    name: &str,
    kind: &str,
    config: &Map<String, Value>,
) -> Result<Described, SpecError> {
    let constructor = LAYERS
        .iter()
        .find(|(known, _)| *known == kind)
        .map(|(_, constructor)| constructor);
    let constructor = constructor.ok_or_else(|| SpecError::UnknownLayer {
        layer: name.to_string(),
        found: kind.chars().take(80).collect(),
        known: LAYERS
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let mut options = Options::new(name, kind, config);
    let layer = constructor(&mut options)?;
    let described = Described {
        layer,
        trainable: options.flag("trainable", true)?,
        activity_regularizer: Regularizer::read(&mut options, "activity_regularizer")?,
    };
    options.finish()?;
    Ok(described)
}

fn boxed<L: Layer + 'static>(layer: Result<L, SpecError>) -> Result<Box<dyn Layer>, SpecError> {
    layer.map(|layer| Box::new(layer) as Box<dyn Layer>)
}

#[cfg(test)]
mod tests;
