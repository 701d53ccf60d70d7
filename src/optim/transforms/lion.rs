//! Lion: only the sign of a blend of momentum and gradient counts.

use super::{GradientTransform, Moment};
use crate::tensor::kernels::multiversion;

/// u = sign(b1 m + (1 - b1) g); then m = b2 m + (1 - b2) g.
///
/// Source: Chen et al., Symbolic Discovery of Optimization Algorithms (2023), algorithm 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct SignOfMomentum {
    pub(in super::super) beta_1: f64,
    pub(in super::super) beta_2: f64,
}

impl GradientTransform for SignOfMomentum {
    fn slot_names(&self) -> &'static [&'static str] {
        &["momentum"]
    }

    fn prepare(&self, _moment: &Moment) -> [f32; 4] {
        [
            self.beta_1 as f32,
            (1.0 - self.beta_1) as f32,
            self.beta_2 as f32,
            (1.0 - self.beta_2) as f32,
        ]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        _parameters: &[f32],
        slots: &mut [&mut [f32]],
    ) {
        if let [momentum] = slots {
            lion(prepared, update, momentum);
        }
    }
}

multiversion! {
    fn lion(prepared: [f32; 4], update: &mut [f32], momentum: &mut [f32]) {
        let [beta_1, rate_1, beta_2, rate_2] = prepared;
        for (u, m) in update.iter_mut().zip(momentum) {
            let g = *u;
            let blend = *m * beta_1 + g * rate_1;
            // The sign of 0 is 0; NaN stays NaN.
            *u = if blend > 0.0 { 1.0 } else if blend < 0.0 { -1.0 } else { blend };
            *m = *m * beta_2 + g * rate_2;
        }
    }
}
