//! Adam and its kin: moving averages of the gradient and of its size.

use super::{GradientTransform, Moment};
use crate::tensor::kernels::multiversion;

/// u = m^ / (sqrt(v^) + epsilon'), in Keras' placement of epsilon:
/// `sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)`.
///
/// m += (g - m) (1 - b1); v += (g^2 - v) (1 - b2). PyTorch adds epsilon to sqrt(v / (1 - b2^t)) instead, as
/// LAMB does in Keras too: that is this form with epsilon sqrt(1 - b2^t), `epsilon_after_correction`. With `amsgrad` the largest v so far stands in v's place.
/// Sources: Kingma and Ba, Adam (2015), end of section 2; Reddi, Kale and Kumar, On the Convergence of Adam (2018).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ScaleByAdam {
    pub(in super::super) beta_1: f64,
    pub(in super::super) beta_2: f64,
    pub(in super::super) epsilon: f64,
    pub(in super::super) epsilon_after_correction: bool,
    pub(in super::super) amsgrad: bool,
}

impl GradientTransform for ScaleByAdam {
    fn slot_names(&self) -> &'static [&'static str] {
        if self.amsgrad {
            &["momentum", "velocity", "velocity_max"]
        } else {
            &["momentum", "velocity"]
        }
    }

    fn prepare(&self, moment: &Moment) -> [f32; 4] {
        let step = moment.step as f64;
        let of_velocity = (1.0 - self.beta_2.powf(step)).sqrt();
        let correction = of_velocity / (1.0 - self.beta_1.powf(step));
        let epsilon = if self.epsilon_after_correction {
            self.epsilon * of_velocity
        } else {
            self.epsilon
        };
        [
            (1.0 - self.beta_1) as f32,
            (1.0 - self.beta_2) as f32,
            epsilon as f32,
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
        match slots {
            [momentum, velocity] => adam(prepared, update, momentum, velocity),
            [momentum, velocity, velocity_max] => {
                amsgrad(prepared, update, momentum, velocity, velocity_max);
            }
            _ => {}
        }
    }
}

/// u = m / ((1 - b1^t) (n + epsilon)) with n = max(b2 n, |g|): Adam with the infinity norm.
///
/// Source: Kingma and Ba, Adam (2015), section 7.1; epsilon where Keras puts it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ScaleByAdamax {
    pub(in super::super) beta_1: f64,
    pub(in super::super) beta_2: f64,
    pub(in super::super) epsilon: f64,
}

impl GradientTransform for ScaleByAdamax {
    fn slot_names(&self) -> &'static [&'static str] {
        &["momentum", "norm"]
    }

    fn prepare(&self, moment: &Moment) -> [f32; 4] {
        [
            (1.0 - self.beta_1) as f32,
            self.beta_2 as f32,
            self.epsilon as f32,
            (1.0 / (1.0 - self.beta_1.powf(moment.step as f64))) as f32,
        ]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        _parameters: &[f32],
        slots: &mut [&mut [f32]],
    ) {
        if let [momentum, norm] = slots {
            adamax(prepared, update, momentum, norm);
        }
    }
}

/// Adam with Nesterov's look ahead: u = (c1 m + c2 g) / (sqrt(v^) + epsilon), where the shares follow
/// `mu_t = b1 (1 - 0.96^t / 2)` and the product of all mu so far.
///
/// Source: Dozat, Incorporating Nesterov Momentum into Adam (2016), in Keras' form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ScaleByNadam {
    pub(in super::super) beta_1: f64,
    pub(in super::super) beta_2: f64,
    pub(in super::super) epsilon: f64,
}

impl ScaleByNadam {
    /// After so many steps 0.96^t is below the precision of float64, and mu stays what it is.
    const STEPS_UNTIL_STEADY: u64 = 1_000;

    fn mu(&self, step: u64) -> f64 {
        self.beta_1 * (1.0 - 0.5 * 0.96_f64.powf(step as f64))
    }

    /// mu_1 mu_2 ... mu_step.
    fn product(&self, step: u64) -> f64 {
        let varying = step.min(Self::STEPS_UNTIL_STEADY);
        let product: f64 = (1..=varying).map(|step| self.mu(step)).product();
        product * self.beta_1.powf((step - varying) as f64)
    }
}

impl GradientTransform for ScaleByNadam {
    fn slot_names(&self) -> &'static [&'static str] {
        &["momentum", "velocity"]
    }

    /// The share of m, the share of g, and what v is multiplied by.
    fn prepare(&self, moment: &Moment) -> [f32; 4] {
        let step = moment.step;
        let product = self.product(step);
        let next = self.mu(step + 1);
        [
            (next / (1.0 - product * next)) as f32,
            ((1.0 - self.mu(step)) / (1.0 - product)) as f32,
            (1.0 / (1.0 - self.beta_2.powf(step as f64))) as f32,
            self.epsilon as f32,
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
            let rates = [(1.0 - self.beta_1) as f32, (1.0 - self.beta_2) as f32];
            nadam(prepared, rates, update, momentum, velocity);
        }
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

    fn amsgrad(
        prepared: [f32; 4],
        update: &mut [f32],
        momentum: &mut [f32],
        velocity: &mut [f32],
        velocity_max: &mut [f32],
    ) {
        let [rate_1, rate_2, epsilon, correction] = prepared;
        for (((u, m), v), most) in update.iter_mut().zip(momentum).zip(velocity).zip(velocity_max) {
            let g = *u;
            *m += (g - *m) * rate_1;
            *v += (g * g - *v) * rate_2;
            *most = most.max(*v);
            *u = (*m * correction) / (most.sqrt() + epsilon);
        }
    }

    fn adamax(prepared: [f32; 4], update: &mut [f32], momentum: &mut [f32], norm: &mut [f32]) {
        let [rate_1, beta_2, epsilon, correction] = prepared;
        for ((u, m), n) in update.iter_mut().zip(momentum).zip(norm) {
            let g = *u;
            *m += (g - *m) * rate_1;
            *n = (beta_2 * *n).max(g.abs());
            *u = *m * correction / (*n + epsilon);
        }
    }

    fn nadam(
        prepared: [f32; 4],
        rates: [f32; 2],
        update: &mut [f32],
        momentum: &mut [f32],
        velocity: &mut [f32],
    ) {
        let [of_momentum, of_gradient, correction, epsilon] = prepared;
        let [rate_1, rate_2] = rates;
        for ((u, m), v) in update.iter_mut().zip(momentum).zip(velocity) {
            let g = *u;
            *m += (g - *m) * rate_1;
            *v += (g * g - *v) * rate_2;
            *u = (of_momentum * *m + of_gradient * g) / ((*v * correction).sqrt() + epsilon);
        }
    }
}
