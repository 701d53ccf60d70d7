//! One file per layer. The table below is the whole vocabulary.

pub(super) mod activation;
mod batch_normalization;
mod concatenate;
mod dense;
mod dropout;
mod embedding;
mod flatten;
pub(super) mod input;

use super::error::SpecError;
use super::layer::Layer;
use super::options::Options;
use super::spec::LayerSpec;

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
];

/// Reads one layer's description, refusing unknown layers and options by name.
pub(super) fn read(spec: &LayerSpec) -> Result<Box<dyn Layer>, SpecError> {
    let constructor = LAYERS
        .iter()
        .find(|(name, _)| *name == spec.layer)
        .map(|(_, constructor)| constructor);
    let constructor = constructor.ok_or_else(|| SpecError::UnknownLayer {
        layer: spec.name.clone(),
        found: spec.layer.chars().take(80).collect(),
        known: LAYERS
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let mut options = Options::new(&spec.name, &spec.layer, &spec.config);
    let layer = constructor(&mut options)?;
    options.finish()?;
    Ok(layer)
}

fn boxed<L: Layer + 'static>(layer: Result<L, SpecError>) -> Result<Box<dyn Layer>, SpecError> {
    layer.map(|layer| Box::new(layer) as Box<dyn Layer>)
}
