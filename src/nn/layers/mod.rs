//! One file per layer. The table below is the whole vocabulary.

pub(super) mod activation;
mod batch_normalization;
mod concatenate;
mod convolution;
mod dense;
mod dropout;
mod embedding;
mod flatten;
pub(super) mod input;
mod pooling;
mod windows;

use serde_json::{Map, Value};

use super::error::SpecError;
use super::layer::Layer;
use super::options::Options;
use super::regularize::Regularizer;
use pooling::Summary;

type Constructor = fn(&mut Options<'_>) -> Result<Box<dyn Layer>, SpecError>;

const LAYERS: &[(&str, Constructor)] = &[
    ("Input", |options| boxed(input::Input::read(options))),
    ("Dense", |options| boxed(dense::Dense::read(options))),
    ("Embedding", |options| {
        boxed(embedding::Embedding::read(options))
    }),
    ("Dropout", |options| boxed(dropout::Dropout::read(options))),
    ("Activation", |options| {
        boxed(activation::ActivationLayer::read(options))
    }),
    ("Concatenate", |options| {
        boxed(concatenate::Concatenate::read(options))
    }),
    ("BatchNormalization", |options| {
        boxed(batch_normalization::BatchNormalization::read(options))
    }),
    ("Flatten", |options| boxed(flatten::Flatten::read(options))),
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
];

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
