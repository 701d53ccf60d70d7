//! Images with their padding written out, so that every tap of every output reads a number.

/// What of each spatial axis is read: `extent` places, of which place `before` is the image's first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Margins {
    /// Zeros before the image; negative when its first numbers are never read.
    pub before: [isize; 3],
    pub extent: [usize; 3],
    pub image: [usize; 3],
}

impl Margins {
    /// Whether the image as it stands will do.
    pub(super) fn none(&self) -> bool {
        (0..3).all(|axis| self.before[axis] == 0 && self.extent[axis] <= self.image[axis])
    }

    /// Places of the image with its margins.
    pub(super) fn places(&self) -> usize {
        self.extent.iter().product()
    }

    /// Writes one image (spatial.., `channels`) with its margins, each channel `repeat` times.
    pub(super) fn write(&self, image: &[f32], channels: usize, repeat: usize, out: &mut [f32]) {
        let row = self.image[2] * channels;
        let wide = channels * repeat;
        // Along the rows, the part of the image that is read.
        let skipped = (-self.before[2]).max(0) as usize;
        let left = (self.before[2].max(0) as usize).min(self.extent[2]);
        let copied = (self.extent[2] - left).min(self.image[2].saturating_sub(skipped));
        let mut rows = out.chunks_exact_mut(self.extent[2] * wide);
        for first in 0..self.extent[0] {
            for second in 0..self.extent[1] {
                let out = rows.next().expect("one row per pair of places");
                let inside = self.inside(0, first).zip(self.inside(1, second));
                let Some((first, second)) = inside else {
                    out.fill(0.0);
                    continue;
                };
                let start = (first * self.image[1] + second) * row + skipped * channels;
                let numbers = &image[start..start + copied * channels];
                out[..left * wide].fill(0.0);
                let (middle, right) = out[left * wide..].split_at_mut(copied * wide);
                right.fill(0.0);
                if repeat == 1 {
                    middle.copy_from_slice(numbers);
                } else {
                    for (out, &number) in middle.chunks_exact_mut(repeat).zip(numbers) {
                        out.fill(number);
                    }
                }
            }
        }
    }

    fn inside(&self, axis: usize, place: usize) -> Option<usize> {
        let place = usize::try_from(place as isize - self.before[axis]).ok()?;
        (place < self.image[axis]).then_some(place)
    }
}
