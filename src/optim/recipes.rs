//! The optimisers by name: each a few lines of chain.

use super::chain::Chain;
use super::transform::{AddDecayedWeights, Momentum, ScaleByAdam, ScaleByLearningRate};

/// v = momentum v - lr g; p += v (or p += momentum v - lr g with Nesterov). Keras' form.
pub(super) fn sgd(momentum: f64, nesterov: bool) -> Chain {
    if momentum == 0.0 {
        return Chain::new(vec![Box::new(ScaleByLearningRate)]);
    }
    Chain::new(vec![
        Box::new(ScaleByLearningRate),
        Box::new(Momentum {
            momentum: momentum as f32,
            nesterov,
        }),
    ])
}

/// Kingma and Ba (2015), epsilon where Keras puts it.
pub(super) fn adam(beta_1: f64, beta_2: f64, epsilon: f64) -> Chain {
    Chain::new(vec![
        Box::new(ScaleByAdam {
            beta_1,
            beta_2,
            epsilon,
        }),
        Box::new(ScaleByLearningRate),
    ])
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019): p -= lr (adam + decay p).
pub(super) fn adamw(beta_1: f64, beta_2: f64, epsilon: f64, weight_decay: f64) -> Chain {
    Chain::new(vec![
        Box::new(ScaleByAdam {
            beta_1,
            beta_2,
            epsilon,
        }),
        Box::new(AddDecayedWeights {
            decay: weight_decay as f32,
        }),
        Box::new(ScaleByLearningRate),
    ])
}
