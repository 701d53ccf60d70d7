//! A piece of an optimiser: takes a gradient (or what the pieces before made of it) and makes the next update.

use std::fmt::Debug;

use crate::tensor::kernels::multiversion;

/// What a transform needs to know of the numbers around the one it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only the number itself: any cut of the vector gives the same bits.
    Elementwise,
    /// A quantity of the whole vector, such as its norm; needs one more exchange between owners.
    WholeModel,
}

/// When an update happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Counted from 1 over the whole job.
    pub step: u64,
    pub learning_rate: f32,
}

/// Changes `update` in place, a tile at a time. Tiles are cut anywhere; slots start at zero.
pub trait GradientTransform: Debug + Send + Sync {
    fn scope(&self) -> Scope {
        Scope::Elementwise
    }

    /// Names of the state vectors it keeps, each as long as the parameters.
    fn slot_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Numbers that depend on the moment alone, computed once per update and handed to every tile.
    fn prepare(&self, _moment: &Moment) -> [f32; 4] {
        [0.0; 4]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        parameters: &[f32],
        slots: &mut [&mut [f32]],
    );
}

/// u = m^ / (sqrt(v^) + epsilon'), in Keras' placement of epsilon:
/// `sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)`.
///
/// m += (g - m) (1 - b1); v += (g^2 - v) (1 - b2). PyTorch adds epsilon to sqrt(v / (1 - b2^t)) instead, which is the
/// same with epsilon / sqrt(1 - b2^t). Source: Kingma and Ba, Adam (2015), end of section 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ScaleByAdam {
    pub(super) beta_1: f64,
    pub(super) beta_2: f64,
    pub(super) epsilon: f64,
}

impl GradientTransform for ScaleByAdam {
    fn slot_names(&self) -> &'static [&'static str] {
        &["momentum", "velocity"]
    }

    fn prepare(&self, moment: &Moment) -> [f32; 4] {
        let step = moment.step as f64;
        let correction = (1.0 - self.beta_2.powf(step)).sqrt() / (1.0 - self.beta_1.powf(step));
        [
            (1.0 - self.beta_1) as f32,
            (1.0 - self.beta_2) as f32,
            self.epsilon as f32,
            correction as f32,
        ]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        _parameters: &[f32],
        slots: &mut [&mut [f32]],
    ) {
        if let [momentum, velocity] = slots {
            adam(prepared, update, momentum, velocity);
        }
    }
}

/// v = momentum v + u; the update becomes v, or momentum v + u with Nesterov's look ahead. Keras' form: the learning
/// rate is inside the velocity, so this comes after `ScaleByLearningRate`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Momentum {
    pub(super) momentum: f32,
    pub(super) nesterov: bool,
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

/// u += decay * p: decoupled weight decay (Loshchilov and Hutter, 2019), scaled by the learning rate that follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AddDecayedWeights {
    pub(super) decay: f32,
}

impl GradientTransform for AddDecayedWeights {
    fn prepare(&self, _moment: &Moment) -> [f32; 4] {
        [self.decay, 0.0, 0.0, 0.0]
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

/// u = -learning_rate * u: from a direction to a step downhill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ScaleByLearningRate;

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

multiversion! {
    fn adam(prepared: [f32; 4], update: &mut [f32], momentum: &mut [f32], velocity: &mut [f32]) {
        let [rate_1, rate_2, epsilon, correction] = prepared;
        for ((u, m), v) in update.iter_mut().zip(momentum).zip(velocity) {
            let g = *u;
            *m += (g - *m) * rate_1;
            *v += (g * g - *v) * rate_2;
            *u = (*m * correction) / (v.sqrt() + epsilon);
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

    fn add_scaled(factor: f32, update: &mut [f32], parameters: &[f32]) {
        for (u, &p) in update.iter_mut().zip(parameters) {
            *u += factor * p;
        }
    }

    fn scale(factor: f32, update: &mut [f32]) {
        for u in update {
            *u *= factor;
        }
    }

    /// p += u: the end of every chain.
    pub(super) fn add(parameters: &mut [f32], update: &[f32]) {
        for (p, &u) in parameters.iter_mut().zip(update) {
            *p += u;
        }
    }
}
