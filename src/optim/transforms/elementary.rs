//! Scaling, clipping, momentum and decay: the words that most recipes share.

use super::{GradientTransform, Moment};
use crate::tensor::kernels::multiversion;

/// u = -learning_rate * u: from a direction to a step downhill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ScaleByLearningRate;

impl GradientTransform for ScaleByLearningRate {
    fn prepare(&self, moment: &Moment) -> [f32; 4] {
        [-moment.learning_rate, 0.0, 0.0, 0.0]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        _parameters: &[f32],
        _slots: &mut [&mut [f32]],
    ) {
        scale(prepared[0], update);
    }
}

/// u = min(max(u, -limit), limit), first in a chain: Keras' `clipvalue`. NaN stays NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ClipByValue {
    pub(in super::super) limit: f32,
}

impl GradientTransform for ClipByValue {
    fn apply(
        &self,
        _prepared: [f32; 4],
        update: &mut [f32],
        _parameters: &[f32],
        _slots: &mut [&mut [f32]],
    ) {
        clip(self.limit, update);
    }
}

/// v = momentum v + u; the update becomes v, or momentum v + u with Nesterov's look ahead. Keras' form: the learning
/// rate is inside the velocity, so this comes after `ScaleByLearningRate`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Momentum {
    pub(in super::super) momentum: f32,
    pub(in super::super) nesterov: bool,
}

impl GradientTransform for Momentum {
    fn slot_names(&self) -> &'static [&'static str] {
        &["momentum"]
    }

    fn prepare(&self, _moment: &Moment) -> [f32; 4] {
        [self.momentum, 0.0, 0.0, 0.0]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        _parameters: &[f32],
        slots: &mut [&mut [f32]],
    ) {
        if let [velocity] = slots {
            if self.nesterov {
                momentum_nesterov(prepared[0], update, velocity);
            } else {
                momentum(prepared[0], update, velocity);
            }
        }
    }
}

/// u -= learning_rate * decay * p: decoupled weight decay (Loshchilov and Hutter, 2019), last in a chain, so that no
/// momentum and no scale of the gradient gets hold of it. Keras' form: the parameters of before the update count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct DecayWeights {
    pub(in super::super) decay: f32,
}

impl GradientTransform for DecayWeights {
    fn prepare(&self, moment: &Moment) -> [f32; 4] {
        [-moment.learning_rate * self.decay, 0.0, 0.0, 0.0]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        parameters: &[f32],
        _slots: &mut [&mut [f32]],
    ) {
        add_scaled(prepared[0], update, parameters);
    }
}

multiversion! {
    pub(in super::super) fn scale(factor: f32, update: &mut [f32]) {
        for u in update {
            *u *= factor;
        }
    }

    fn clip(limit: f32, update: &mut [f32]) {
        for u in update {
            // Comparisons that NaN fails: it passes through.
            if *u > limit {
                *u = limit;
            } else if *u < -limit {
                *u = -limit;
            }
        }
    }

    fn momentum(factor: f32, update: &mut [f32], velocity: &mut [f32]) {
        for (u, v) in update.iter_mut().zip(velocity) {
            *v = factor * *v + *u;
            *u = *v;
        }
    }

    fn momentum_nesterov(factor: f32, update: &mut [f32], velocity: &mut [f32]) {
        for (u, v) in update.iter_mut().zip(velocity) {
            *v = factor * *v + *u;
            *u += factor * *v;
        }
    }

    pub(in super::super) fn add_scaled(factor: f32, update: &mut [f32], parameters: &[f32]) {
        for (u, &p) in update.iter_mut().zip(parameters) {
            *u += factor * p;
        }
    }

    /// p += u: the end of every chain.
    pub(in super::super) fn add(parameters: &mut [f32], update: &[f32]) {
        for (p, &u) in parameters.iter_mut().zip(update) {
            *p += u;
        }
    }
}
