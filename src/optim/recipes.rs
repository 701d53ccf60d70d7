//! The optimisers by name: what each may be told, and the few lines of chain that it is.
//!
//! To add one: a row of [`RECIPES`], golden values from Keras (`tests/golden/optimizers/`), its line in
//! `docs/model-spec.md` and its class in `python-client/src/volary/model/optimizers.py`.

use super::transforms::{
    FollowRegularizedLeader, GradientTransform, Momentum, ScaleByAdadelta, ScaleByAdagrad,
    ScaleByAdam, ScaleByAdamax, ScaleByLayerRate, ScaleByLearningRate, ScaleByNadam, ScaleByRms,
    ScaleByTrustRatio, SignOfMomentum,
};

/// One option of a recipe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Setting {
    /// Name, default, smallest and largest value.
    Number(&'static str, f64, f64, f64),
    /// Name; false by default.
    Flag(&'static str),
}

/// One optimiser.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    /// The rate of one that is given none.
    pub(super) learning_rate: f64,
    /// Decoupled weight decay by default (0: none); `None` where the update itself is a new value and takes no decay.
    pub(super) weight_decay: Option<f64>,
    pub(super) settings: &'static [Setting],
    /// The chain, from a value per setting (0 or 1 for flags), between clipping and weight decay. It is told the decay,
    /// which enters the norms of some.
    pub(super) transforms: fn(&[f64], f64) -> Vec<Box<dyn GradientTransform>>,
}

/// A beta of 1 never learns and divides by zero.
const fn beta(name: &'static str, default: f64) -> Setting {
    Setting::Number(name, default, 0.0, 0.999_999_9)
}

const EPSILON: Setting = Setting::Number("epsilon", 1e-7, 1e-30, 1.0);

/// Every optimiser, Keras' names, options and defaults.
pub(super) const RECIPES: &[Recipe] = &[
    Recipe {
        name: "sgd",
        learning_rate: 0.01,
        weight_decay: Some(0.0),
        settings: &[
            Setting::Number("momentum", 0.0, 0.0, 1.0),
            Setting::Flag("nesterov"),
        ],
        transforms: |values, _| with_momentum(vec![], values[0], values[1] != 0.0),
    },
    Recipe {
        name: "adam",
        learning_rate: 0.001,
        weight_decay: Some(0.0),
        settings: &[
            beta("beta_1", 0.9),
            beta("beta_2", 0.999),
            EPSILON,
            Setting::Flag("amsgrad"),
        ],
        transforms: adam,
    },
    Recipe {
        name: "adamw",
        learning_rate: 0.001,
        weight_decay: Some(0.004),
        settings: &[
            beta("beta_1", 0.9),
            beta("beta_2", 0.999),
            EPSILON,
            Setting::Flag("amsgrad"),
        ],
        transforms: adam,
    },
    Recipe {
        name: "adamax",
        learning_rate: 0.001,
        weight_decay: Some(0.0),
        settings: &[beta("beta_1", 0.9), beta("beta_2", 0.999), EPSILON],
        transforms: |values, _| {
            downhill(ScaleByAdamax {
                beta_1: values[0],
                beta_2: values[1],
                epsilon: values[2],
            })
        },
    },
    Recipe {
        name: "nadam",
        learning_rate: 0.001,
        weight_decay: Some(0.0),
        settings: &[beta("beta_1", 0.9), beta("beta_2", 0.999), EPSILON],
        transforms: |values, _| {
            downhill(ScaleByNadam {
                beta_1: values[0],
                beta_2: values[1],
                epsilon: values[2],
            })
        },
    },
    Recipe {
        name: "adagrad",
        learning_rate: 0.001,
        weight_decay: Some(0.0),
        settings: &[
            Setting::Number("initial_accumulator_value", 0.1, 0.0, 1e6),
            EPSILON,
        ],
        transforms: |values, _| {
            downhill(ScaleByAdagrad {
                start: values[0],
                epsilon: values[1],
            })
        },
    },
    Recipe {
        name: "adadelta",
        learning_rate: 0.001,
        weight_decay: Some(0.0),
        settings: &[Setting::Number("rho", 0.95, 0.0, 1.0), EPSILON],
        transforms: |values, _| {
            downhill(ScaleByAdadelta {
                rho: values[0],
                epsilon: values[1],
            })
        },
    },
    Recipe {
        name: "rmsprop",
        learning_rate: 0.001,
        weight_decay: Some(0.0),
        settings: &[
            Setting::Number("rho", 0.9, 0.0, 1.0),
            Setting::Number("momentum", 0.0, 0.0, 1.0),
            EPSILON,
            Setting::Flag("centered"),
        ],
        transforms: |values, _| {
            let scale = ScaleByRms {
                rho: values[0],
                epsilon: values[2],
                centered: values[3] != 0.0,
            };
            with_momentum(vec![Box::new(scale)], values[1], false)
        },
    },
    Recipe {
        name: "ftrl",
        learning_rate: 0.001,
        weight_decay: None,
        settings: &[
            Setting::Number("learning_rate_power", -0.5, -10.0, 0.0),
            Setting::Number("initial_accumulator_value", 0.1, 0.0, 1e6),
            Setting::Number("l1_regularization_strength", 0.0, 0.0, 1e6),
            Setting::Number("l2_regularization_strength", 0.0, 0.0, 1e6),
            Setting::Number("l2_shrinkage_regularization_strength", 0.0, 0.0, 1e6),
            Setting::Number("beta", 0.0, 0.0, 1e6),
        ],
        transforms: |values, _| {
            vec![Box::new(FollowRegularizedLeader {
                power: values[0],
                start: values[1],
                l1: values[2],
                l2: values[3],
                shrinkage: values[4],
                beta: values[5],
            })]
        },
    },
    Recipe {
        name: "lion",
        learning_rate: 0.001,
        weight_decay: Some(0.0),
        settings: &[
            Setting::Number("beta_1", 0.9, 0.0, 1.0),
            Setting::Number("beta_2", 0.99, 0.0, 1.0),
        ],
        transforms: |values, _| {
            downhill(SignOfMomentum {
                beta_1: values[0],
                beta_2: values[1],
            })
        },
    },
    Recipe {
        name: "lamb",
        learning_rate: 0.001,
        weight_decay: Some(0.0),
        settings: &[beta("beta_1", 0.9), beta("beta_2", 0.999), EPSILON],
        transforms: |values, decay| {
            let direction = ScaleByAdam {
                beta_1: values[0],
                beta_2: values[1],
                epsilon: values[2],
                epsilon_after_correction: true,
                amsgrad: false,
            };
            vec![
                Box::new(direction),
                Box::new(ScaleByTrustRatio { decay }),
                Box::new(ScaleByLearningRate),
            ]
        },
    },
    Recipe {
        name: "lars",
        // Keras has no LARS; the rate is multiplied by `trust_coefficient`, so it is larger than others'.
        learning_rate: 1.0,
        // Inside the gradient and its norm, as the paper has it: an option of its own below.
        weight_decay: None,
        settings: &[
            Setting::Number("momentum", 0.9, 0.0, 1.0),
            Setting::Flag("nesterov"),
            Setting::Number("weight_decay", 0.0, 0.0, 1e3),
            Setting::Number("trust_coefficient", 0.001, 1e-30, 1e3),
            Setting::Number("epsilon", 0.0, 0.0, 1.0),
        ],
        transforms: |values, _| {
            let scale = ScaleByLayerRate {
                decay: values[2],
                trust: values[3],
                epsilon: values[4],
            };
            with_momentum(vec![Box::new(scale)], values[0], values[1] != 0.0)
        },
    },
];

fn adam(values: &[f64], _decay: f64) -> Vec<Box<dyn GradientTransform>> {
    downhill(ScaleByAdam {
        beta_1: values[0],
        beta_2: values[1],
        epsilon: values[2],
        epsilon_after_correction: false,
        amsgrad: values[3] != 0.0,
    })
}

/// A direction, and a step of the learning rate against it.
fn downhill(direction: impl GradientTransform + 'static) -> Vec<Box<dyn GradientTransform>> {
    vec![Box::new(direction), Box::new(ScaleByLearningRate)]
}

/// A direction, a step against it, and Keras' momentum, which keeps steps rather than directions.
fn with_momentum(
    mut transforms: Vec<Box<dyn GradientTransform>>,
    momentum: f64,
    nesterov: bool,
) -> Vec<Box<dyn GradientTransform>> {
    transforms.push(Box::new(ScaleByLearningRate));
    if momentum > 0.0 {
        transforms.push(Box::new(Momentum {
            momentum: momentum as f32,
            nesterov,
        }));
    }
    transforms
}
