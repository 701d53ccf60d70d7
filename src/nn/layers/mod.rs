//! One file per layer. The table below is the whole vocabulary.

pub(super) mod activation;
mod batch_normalization;
mod concatenate;
mod dense;
mod dropout;
mod embedding;
mod flatten;
pub(super) mod input;
mod lambda;

use serde_json::{Map, Value};

use super::error::SpecError;
use super::layer::Layer;
use super::options::Options;
use super::regularize::Regularizer;

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
    // What a client recorded.
    ("Lambda", |options| boxed(lambda::Lambda::read(options))),
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
