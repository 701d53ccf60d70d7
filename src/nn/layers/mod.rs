//! One file per layer. The table below is the whole vocabulary.

pub(super) mod activation;
mod activation_layers;
mod attention;
mod axes;
mod convolution;
mod dense;
mod embedding;
mod flatten;
mod highway;
pub(super) mod input;
mod lambda;
mod masks;
mod maxout_dense;
mod merging;
mod noise;
mod normalization;
mod pooling;
mod recurrent;
mod shaping;
mod windows;
mod wrappers;

use serde_json::{Map, Value};

use super::error::SpecError;
use super::layer::Layer;
use super::options::Options;
use super::regularize::Regularizer;
use merging::{Merge, Rule};
use pooling::Summary;
use recurrent::{Cell, ConvLstm, Recurrent};
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
    ("ConvLSTM1D", |options| boxed(ConvLstm::read(options, 1))),
    ("ConvLSTM2D", |options| boxed(ConvLstm::read(options, 2))),
    ("ConvLSTM3D", |options| boxed(ConvLstm::read(options, 3))),
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
    // convolutions
    ("Conv1D", |options| {
        boxed(convolution::Conv::read(options, 1))
    }),
    ("Conv2D", |options| {
        boxed(convolution::Conv::read(options, 2))
    }),
    ("Conv3D", |options| {
        boxed(convolution::Conv::read(options, 3))
    }),
    ("DepthwiseConv1D", |options| {
        boxed(convolution::DepthwiseConv::read(options, 1))
    }),
    ("DepthwiseConv2D", |options| {
        boxed(convolution::DepthwiseConv::read(options, 2))
    }),
    ("SeparableConv1D", |options| {
        boxed(convolution::SeparableConv::read(options, 1))
    }),
    ("SeparableConv2D", |options| {
        boxed(convolution::SeparableConv::read(options, 2))
    }),
    ("Conv1DTranspose", |options| {
        boxed(convolution::ConvTranspose::read(options, 1))
    }),
    ("Conv2DTranspose", |options| {
        boxed(convolution::ConvTranspose::read(options, 2))
    }),
    ("Conv3DTranspose", |options| {
        boxed(convolution::ConvTranspose::read(options, 3))
    }),
    ("LocallyConnected1D", |options| {
        boxed(convolution::LocallyConnected::read(options, 1))
    }),
    ("LocallyConnected2D", |options| {
        boxed(convolution::LocallyConnected::read(options, 2))
    }),
    // pooling
    ("MaxPooling1D", |options| {
        boxed(pooling::SlidingPooling::read(options, 1, Summary::Max))
    }),
    ("MaxPooling2D", |options| {
        boxed(pooling::SlidingPooling::read(options, 2, Summary::Max))
    }),
    ("MaxPooling3D", |options| {
        boxed(pooling::SlidingPooling::read(options, 3, Summary::Max))
    }),
    ("AveragePooling1D", |options| {
        boxed(pooling::SlidingPooling::read(options, 1, Summary::Mean))
    }),
    ("AveragePooling2D", |options| {
        boxed(pooling::SlidingPooling::read(options, 2, Summary::Mean))
    }),
    ("AveragePooling3D", |options| {
        boxed(pooling::SlidingPooling::read(options, 3, Summary::Mean))
    }),
    ("GlobalMaxPooling1D", |options| {
        boxed(pooling::GlobalPooling::read(options, 1, Summary::Max))
    }),
    ("GlobalMaxPooling2D", |options| {
        boxed(pooling::GlobalPooling::read(options, 2, Summary::Max))
    }),
    ("GlobalMaxPooling3D", |options| {
        boxed(pooling::GlobalPooling::read(options, 3, Summary::Max))
    }),
    ("GlobalAveragePooling1D", |options| {
        boxed(pooling::GlobalPooling::read(options, 1, Summary::Mean))
    }),
    ("GlobalAveragePooling2D", |options| {
        boxed(pooling::GlobalPooling::read(options, 2, Summary::Mean))
    }),
    ("GlobalAveragePooling3D", |options| {
        boxed(pooling::GlobalPooling::read(options, 3, Summary::Mean))
    }),
    ("AdaptiveMaxPooling1D", |options| {
        boxed(pooling::AdaptivePooling::read(options, 1, Summary::Max))
    }),
    ("AdaptiveMaxPooling2D", |options| {
        boxed(pooling::AdaptivePooling::read(options, 2, Summary::Max))
    }),
    ("AdaptiveMaxPooling3D", |options| {
        boxed(pooling::AdaptivePooling::read(options, 3, Summary::Max))
    }),
    ("AdaptiveAveragePooling1D", |options| {
        boxed(pooling::AdaptivePooling::read(options, 1, Summary::Mean))
    }),
    ("AdaptiveAveragePooling2D", |options| {
        boxed(pooling::AdaptivePooling::read(options, 2, Summary::Mean))
    }),
    ("AdaptiveAveragePooling3D", |options| {
        boxed(pooling::AdaptivePooling::read(options, 3, Summary::Mean))
    }),
    // What a client recorded.
    ("Lambda", |options| boxed(lambda::Lambda::read(options))),
];

/// Every layer by its name.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    LAYERS.iter().map(|(name, _)| *name)
}

/// Other names that Keras has for layers.
const ALIASES: &[(&str, &str)] = &[
    ("Convolution1D", "Conv1D"),
    ("Convolution2D", "Conv2D"),
    ("Convolution3D", "Conv3D"),
    ("SeparableConvolution1D", "SeparableConv1D"),
    ("SeparableConvolution2D", "SeparableConv2D"),
    ("Convolution1DTranspose", "Conv1DTranspose"),
    ("Convolution2DTranspose", "Conv2DTranspose"),
    ("Convolution3DTranspose", "Conv3DTranspose"),
    ("MaxPool1D", "MaxPooling1D"),
    ("MaxPool2D", "MaxPooling2D"),
    ("MaxPool3D", "MaxPooling3D"),
    ("AvgPool1D", "AveragePooling1D"),
    ("AvgPool2D", "AveragePooling2D"),
    ("AvgPool3D", "AveragePooling3D"),
    ("GlobalMaxPool1D", "GlobalMaxPooling1D"),
    ("GlobalMaxPool2D", "GlobalMaxPooling2D"),
    ("GlobalMaxPool3D", "GlobalMaxPooling3D"),
    ("GlobalAvgPool1D", "GlobalAveragePooling1D"),
    ("GlobalAvgPool2D", "GlobalAveragePooling2D"),
    ("GlobalAvgPool3D", "GlobalAveragePooling3D"),
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
    let full = ALIASES
        .iter()
        .find(|(alias, _)| *alias == kind)
        .map_or(kind, |(_, full)| *full);
    let constructor = LAYERS
        .iter()
        .find(|(known, _)| *known == full)
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
