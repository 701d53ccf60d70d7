//! One spatial axis of a sliding window, and which of its taps fall inside the input.
//!
//! Knows neither convolution nor pooling, nor what padding a layer asked for: the caller has turned that into numbers.

use std::ops::Range;

/// One axis: tap `k` of output `o` reads the input at `o * stride + k * dilation - before`; outside it reads nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    pub input: usize,
    pub output: usize,
    pub size: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Zeros (or nothing) before the first number.
    pub before: usize,
}

impl Window {
    /// An axis that is not there.
    pub const UNUSED: Window = Window {
        input: 1,
        output: 1,
        size: 1,
        stride: 1,
        dilation: 1,
        before: 0,
    };

    /// The taps of output `o` that fall inside the input.
    #[inline(always)]
    pub(super) fn taps(&self, o: usize) -> Range<usize> {
        let start = o * self.stride;
        let mut first = self.before.saturating_sub(start);
        let mut end = (self.input + self.before).saturating_sub(start);
        // A division costs more than pooling over a small window.
        if self.dilation > 1 {
            first = first.div_ceil(self.dilation);
            end = end.div_ceil(self.dilation);
        }
        let end = end.min(self.size);
        first.min(end)..end
    }

    /// Where the first of `taps(o)` reads; 0 when there is none.
    #[inline(always)]
    pub(super) fn start(&self, o: usize, taps: &Range<usize>) -> usize {
        if taps.is_empty() {
            return 0;
        }
        o * self.stride + taps.start * self.dilation - self.before
    }

    /// Whether each output reads exactly the input at its own place.
    pub(super) fn is_identity(&self) -> bool {
        self.size == 1 && self.stride == 1 && self.before == 0 && self.output == self.input
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taps_inside_the_input_are_those_whose_position_is() {
        for (input, output, size, stride, dilation, before) in [
            (5, 5, 3, 1, 1, 1),
            (7, 3, 3, 2, 2, 0),
            (2, 2, 9, 1, 1, 4),
            (4, 6, 2, 1, 3, 5),
            (1, 1, 1, 1, 1, 0),
            (3, 9, 2, 2, 1, 1),
        ] {
            let window = Window {
                input,
                output,
                size,
                stride,
                dilation,
                before,
            };
            for o in 0..output {
                let position = |k: usize| (o * stride + k * dilation).checked_sub(before);
                let inside: Vec<usize> = (0..size)
                    .filter(|&k| position(k).is_some_and(|position| position < input))
                    .collect();
                assert_eq!(window.taps(o).collect::<Vec<_>>(), inside, "{window:?} {o}");
                if let Some(&first) = inside.first() {
                    let start = window.start(o, &window.taps(o));
                    assert_eq!(Some(start), position(first), "{window:?} {o}");
                }
            }
        }
    }
}
