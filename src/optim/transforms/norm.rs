//! Transforms that need norms of whole arrays: clipping by norm, and the trust ratios of LAMB and LARS.

use super::elementary::{add_scaled, scale};
use super::{GradientTransform, Moment, Scope};
use crate::optim::blocks::ArrayNorms;

/// u = u limit / max(norm, limit), first in a chain: Keras' `clipnorm`, each array by its own norm, and
/// `global_clipnorm`, all by the norm of all. A norm that is no number makes all that it stands for no number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ClipByNorm {
    pub(in super::super) limit: f64,
    pub(in super::super) of: NormOf,
}

/// Whose norm counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum NormOf {
    EachArray,
    AllArrays,
}

impl GradientTransform for ClipByNorm {
    fn scope(&self) -> Scope {
        Scope::WholeModel
    }

    fn prepare_array(&self, _moment: &Moment, norms: &ArrayNorms) -> [f32; 4] {
        let norm = match self.of {
            NormOf::EachArray => norms.update,
            NormOf::AllArrays => norms.all_updates,
        };
        let factor = if norm.is_nan() || (norm.is_infinite() && self.of == NormOf::AllArrays) {
            f64::NAN
        } else {
            self.limit / norm.max(self.limit)
        };
        [factor as f32, 0.0, 0.0, 0.0]
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

/// Whether a norm counts as 0: where float32 cannot hold its square, as in Keras, whose norms are float32. A ratio to
/// something smaller would be infinite, and what it multiplies no number.
fn vanishes(norm: f64) -> bool {
    (norm * norm) as f32 == 0.0
}

/// u = u |p| / |u| for each array, or u where either norm is 0: LAMB's trust ratio with the identity for its phi.
///
/// Keras' form: weight decay shrinks the parameters before their norm is taken.
/// Source: You et al., Large Batch Optimization for Deep Learning: Training BERT in 76 Minutes (2020), algorithm 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ScaleByTrustRatio {
    /// Decoupled weight decay of the same update.
    pub(in super::super) decay: f64,
}

impl GradientTransform for ScaleByTrustRatio {
    fn scope(&self) -> Scope {
        Scope::WholeModel
    }

    fn measures_parameters(&self) -> bool {
        true
    }

    fn prepare_array(&self, moment: &Moment, norms: &ArrayNorms) -> [f32; 4] {
        let shrunk = (1.0 - f64::from(moment.learning_rate) * self.decay).abs() * norms.parameters;
        // Comparisons that NaN fails, so that it reaches the parameters and is found there.
        let ratio = if vanishes(shrunk) || vanishes(norms.update) {
            1.0
        } else {
            shrunk / norms.update
        };
        [ratio as f32, 0.0, 0.0, 0.0]
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

/// u = trust |p| / (|g| + decay |p| + epsilon) (g + decay p) for each array, with a ratio of 1 where the norm of the
/// parameters or of the gradient is 0 (a bias that begins at 0 would never move).
///
/// Source: You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks (2017), equation 6 and algorithm 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct ScaleByLayerRate {
    pub(in super::super) trust: f64,
    pub(in super::super) decay: f64,
    pub(in super::super) epsilon: f64,
}

impl GradientTransform for ScaleByLayerRate {
    fn scope(&self) -> Scope {
        Scope::WholeModel
    }

    fn measures_parameters(&self) -> bool {
        true
    }

    fn prepare_array(&self, _moment: &Moment, norms: &ArrayNorms) -> [f32; 4] {
        let ratio = if vanishes(norms.parameters) || vanishes(norms.update) {
            1.0
        } else {
            let gradient = norms.update + self.decay * norms.parameters + self.epsilon;
            self.trust * norms.parameters / gradient
        };
        [ratio as f32, self.decay as f32, 0.0, 0.0]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        parameters: &[f32],
        _slots: &mut [&mut [f32]],
    ) {
        let [ratio, decay, ..] = prepared;
        if decay > 0.0 {
            add_scaled(decay, update, parameters);
        }
        scale(ratio, update);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(transform: &dyn GradientTransform, update: f64, parameters: f64, all: f64) -> f32 {
        let moment = Moment {
            step: 1,
            learning_rate: 0.5,
        };
        let norms = ArrayNorms {
            update,
            parameters,
            all_updates: all,
        };
        transform.prepare_array(&moment, &norms)[0]
    }

    #[test]
    fn an_array_without_a_norm_keeps_its_rate() {
        let lamb = ScaleByTrustRatio { decay: 0.5 };
        let lars = ScaleByLayerRate {
            trust: 0.25,
            decay: 0.5,
            epsilon: 0.0,
        };
        for (update, parameters) in [
            (2.0, 0.0),
            (0.0, 3.0),
            (0.0, 0.0),
            (1e-40, 3.0),
            (2.0, 1e-30),
        ] {
            assert_eq!(factor(&lamb, update, parameters, 9.0), 1.0);
            assert_eq!(factor(&lars, update, parameters, 9.0), 1.0);
        }
        // |p| = 4 shrinks to 3 before LAMB looks at it; LARS adds the decay to the gradient's norm.
        assert_eq!(factor(&lamb, 2.0, 4.0, 9.0), 1.5);
        assert_eq!(factor(&lars, 2.0, 4.0, 9.0), 0.25);
        // The smallest that counts.
        assert!(factor(&lamb, 4e-23, 1e15, 9.0).is_finite());
    }

    #[test]
    fn a_norm_that_is_no_number_does_not_clip_to_one() {
        let of = |of| ClipByNorm { limit: 2.0, of };
        let (each, all) = (of(NormOf::EachArray), of(NormOf::AllArrays));
        assert_eq!(factor(&each, 8.0, 0.0, 16.0), 0.25);
        assert_eq!(factor(&all, 8.0, 0.0, 16.0), 0.125);
        assert_eq!(factor(&each, 1.0, 0.0, 16.0), 1.0);
        assert!(factor(&each, f64::NAN, 0.0, 16.0).is_nan());
        assert!(factor(&all, 1.0, 0.0, f64::NAN).is_nan());
        assert!(factor(&all, 1.0, 0.0, f64::INFINITY).is_nan());
        // Infinity times zero is no number where the infinity is.
        assert_eq!(factor(&each, f64::INFINITY, 0.0, 0.0), 0.0);
    }
}
