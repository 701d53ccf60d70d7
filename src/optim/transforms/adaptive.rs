//! Step sizes from the squares of past gradients, without a momentum of their own.

use super::{GradientTransform, Moment, SLOTS_MAX};
use crate::tensor::kernels::multiversion;

/// u = g / sqrt(v + epsilon), v = rho v + (1 - rho) g^2; centered, the square of the mean gradient is taken off v.
///
/// Source: Tieleman and Hinton, Lecture 6.5 (2012); centered: Graves (2013), equation 39. Epsilon where Keras puts it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ScaleByRms {
    pub(in super::super) rho: f64,
    pub(in super::super) epsilon: f64,
    pub(in super::super) centered: bool,
}

impl GradientTransform for ScaleByRms {
    fn slot_names(&self) -> &'static [&'static str] {
        if self.centered {
            &["velocity", "average_gradient"]
        } else {
            &["velocity"]
        }
    }

    fn prepare(&self, _moment: &Moment) -> [f32; 4] {
        let (rho, epsilon) = (self.rho as f32, self.epsilon as f32);
        [rho, (1.0 - self.rho) as f32, epsilon, 0.0]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        _parameters: &[f32],
        slots: &mut [&mut [f32]],
    ) {
        match slots {
            [velocity] => rms(prepared, update, velocity),
            [velocity, average] => rms_centered(prepared, update, velocity, average),
            _ => {}
        }
    }
}

/// u = g / sqrt(a + epsilon), a the sum of all squares so far and a first value.
///
/// Source: Duchi, Hazan and Singer (2011). Epsilon where Keras puts it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ScaleByAdagrad {
    pub(in super::super) start: f64,
    pub(in super::super) epsilon: f64,
}

impl GradientTransform for ScaleByAdagrad {
    fn slot_names(&self) -> &'static [&'static str] {
        &["accumulator"]
    }

    fn slot_starts(&self) -> [f32; SLOTS_MAX] {
        [self.start as f32, 0.0, 0.0, 0.0]
    }

    fn prepare(&self, _moment: &Moment) -> [f32; 4] {
        [self.epsilon as f32, 0.0, 0.0, 0.0]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        _parameters: &[f32],
        slots: &mut [&mut [f32]],
    ) {
        if let [accumulator] = slots {
            adagrad(prepared[0], update, accumulator);
        }
    }
}

/// u = g sqrt(d + epsilon) / sqrt(a + epsilon), a and d moving averages of the squares of gradients and of updates.
///
/// Source: Zeiler, Adadelta (2012), algorithm 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ScaleByAdadelta {
    pub(in super::super) rho: f64,
    pub(in super::super) epsilon: f64,
}

impl GradientTransform for ScaleByAdadelta {
    fn slot_names(&self) -> &'static [&'static str] {
        &["accumulated_gradient", "accumulated_update"]
    }

    fn prepare(&self, _moment: &Moment) -> [f32; 4] {
        let (rho, epsilon) = (self.rho as f32, self.epsilon as f32);
        [rho, (1.0 - self.rho) as f32, epsilon, 0.0]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        _parameters: &[f32],
        slots: &mut [&mut [f32]],
    ) {
        if let [gradients, updates] = slots {
            adadelta(prepared, update, gradients, updates);
        }
    }
}

multiversion! {
    fn rms(prepared: [f32; 4], update: &mut [f32], velocity: &mut [f32]) {
        let [rho, rate, epsilon, _] = prepared;
        for (u, v) in update.iter_mut().zip(velocity) {
            let g = *u;
            *v = rho * *v + rate * (g * g);
            *u = g / (*v + epsilon).sqrt();
        }
    }

    fn rms_centered(prepared: [f32; 4], update: &mut [f32], velocity: &mut [f32], average: &mut [f32]) {
        let [rho, rate, epsilon, _] = prepared;
        for ((u, v), a) in update.iter_mut().zip(velocity).zip(average) {
            let g = *u;
            *v = rho * *v + rate * (g * g);
            *a = rho * *a + rate * g;
            *u = g / (*v - *a * *a + epsilon).sqrt();
        }
    }

    fn adagrad(epsilon: f32, update: &mut [f32], accumulator: &mut [f32]) {
        for (u, a) in update.iter_mut().zip(accumulator) {
            let g = *u;
            *a += g * g;
            *u = g / (*a + epsilon).sqrt();
        }
    }

    fn adadelta(prepared: [f32; 4], update: &mut [f32], gradients: &mut [f32], updates: &mut [f32]) {
        let [rho, rate, epsilon, _] = prepared;
        for ((u, a), d) in update.iter_mut().zip(gradients).zip(updates) {
            let g = *u;
            *a = rho * *a + rate * (g * g);
            *u = (*d + epsilon).sqrt() * g / (*a + epsilon).sqrt();
            *d = rho * *d + rate * (*u * *u);
        }
    }
}
