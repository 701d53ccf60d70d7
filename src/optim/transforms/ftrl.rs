//! Follow the regularised leader, for sparse linear models.

use super::{GradientTransform, Moment, SLOTS_MAX};

/// The update that brings p to its new value in one go; nothing scales it afterwards.
///
/// n' = n + g^2; z += g' - (n'^-power - n^-power) / lr p, with g' = g + 2 shrinkage p;
/// p' = (clip(z, -l1, l1) - z) / (n'^-power / lr + 2 l2 + beta / lr).
/// Source: McMahan et al., Ad Click Prediction: a View from the Trenches (2013), in Keras' form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct FollowRegularizedLeader {
    pub(in super::super) power: f64,
    pub(in super::super) start: f64,
    pub(in super::super) l1: f64,
    pub(in super::super) l2: f64,
    pub(in super::super) shrinkage: f64,
    pub(in super::super) beta: f64,
}

impl GradientTransform for FollowRegularizedLeader {
    fn slot_names(&self) -> &'static [&'static str] {
        &["accumulator", "linear"]
    }

    fn slot_starts(&self) -> [f32; SLOTS_MAX] {
        [self.start as f32, 0.0, 0.0, 0.0]
    }

    fn prepare(&self, moment: &Moment) -> [f32; 4] {
        [moment.learning_rate, 0.0, 0.0, 0.0]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        parameters: &[f32],
        slots: &mut [&mut [f32]],
    ) {
        let [accumulator, linear] = slots else { return };
        let (rate, l1) = (prepared[0], self.l1 as f32);
        if rate == 0.0 {
            // Nothing moves at a rate of zero, and nothing may be divided by it.
            update.fill(0.0);
            return;
        }
        let (power, shrinkage) = (-self.power as f32, 2.0 * self.shrinkage as f32);
        let pull = 2.0 * self.l2 as f32 + self.beta as f32 / rate;
        for (((u, &p), n), z) in update
            .iter_mut()
            .zip(parameters)
            .zip(accumulator.iter_mut())
            .zip(linear.iter_mut())
        {
            let grown = *n + *u * *u;
            let (before, after) = (n.powf(power), grown.powf(power));
            *z += *u + shrinkage * p - (after - before) / rate * p;
            *n = grown;
            *u = (z.clamp(-l1, l1) - *z) / (after / rate + pull) - p;
        }
    }
}
