//! What goes on around the chain: gradients gathered over several steps, and a moving average of the weights. Both work
//! number by number.

use crate::tensor::kernels::multiversion;

/// The exponential moving average of the weights: Keras' `use_ema`.
///
/// average = momentum average + (1 - momentum) p after every step; before the first update is over, the average is p.
/// Every `overwrite_every` updates the weights become the average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct MovingAverage {
    pub(super) momentum: f64,
    pub(super) overwrite_every: Option<u64>,
}

impl MovingAverage {
    /// After a step of the job, of which `updates_before` updates were over when it began.
    pub(super) fn follow(&self, updates_before: u64, parameters: &mut [f32], average: &mut [f32]) {
        let momentum = if updates_before == 0 {
            0.0
        } else {
            self.momentum as f32
        };
        blend(momentum, 1.0 - momentum, parameters, average);
        if let Some(every) = self.overwrite_every
            && (updates_before + 1).is_multiple_of(every)
        {
            parameters.copy_from_slice(average);
        }
    }
}

multiversion! {
    fn blend(momentum: f32, rest: f32, parameters: &[f32], average: &mut [f32]) {
        for (average, &p) in average.iter_mut().zip(parameters) {
            *average = momentum * *average + rest * p;
        }
    }

    /// sum += g: one more step's gradient.
    pub(super) fn gather(gradient: &[f32], sum: &mut [f32]) {
        for (sum, &g) in sum.iter_mut().zip(gradient) {
            *sum += g;
        }
    }

    /// (g + sum) / steps goes where `mean` is.
    pub(super) fn mean_of(steps: f32, gradient: &[f32], mean: &mut [f32]) {
        for (mean, &g) in mean.iter_mut().zip(gradient) {
            *mean = (g + *mean) / steps;
        }
    }
}
