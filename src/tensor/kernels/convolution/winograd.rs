//! Convolutions of 3 x 3 taps with 16 multiplications for each 2 x 2 outputs instead of 36.
//!
//! With d a 4 x 4 patch of the input and g the kernel, the 2 x 2 outputs are `A' [(G g G') * (B' d B)] A`, where `*`
//! is elementwise: summed over channels, sixteen matrix products. Source: Lavin and Gray, Fast Algorithms for
//! Convolutional Neural Networks, 2015, arXiv:1509.09308, section 4.1 (F(2 x 2, 3 x 3)).
//!
//! The transforms hold only additions and halves, so the error stays within a few times that of the plain sum over the
//! patch. An infinity or NaN in a patch may reach all four of its outputs.

use super::margins::Margins;
use super::sweep::{Direction, Layout, Taps, Walk, margins};
use super::tile::{Loop, multiply};
use super::vector::{WIDTH, vectorised};
use super::{Convolution, aligned, product};

/// Outputs along one axis of a patch, and inputs.
const OUTPUTS: usize = 2;
const INPUTS: usize = 4;
const FREQUENCIES: usize = INPUTS * INPUTS;

/// Float32 numbers of a block's transformed inputs and outputs: three eighths of a second-level cache of 1 MiB.
const BLOCK_NUMBERS: usize = 96 * 1024;

/// Patches of a block at least, so that reading the transformed kernel is cheap beside the products with it.
const PATCHES_MIN: usize = 48;

/// Channels from which the saved multiplications outweigh the transforms.
const CHANNELS_MIN: usize = 32;

/// Whether outputs and input gradients of this convolution are computed here.
pub(super) fn applies(c: &Convolution) -> bool {
    let [first, second, third] = &c.windows;
    first.is_identity()
        && [second, third]
            .iter()
            .all(|window| window.size == 3 && window.stride == 1 && window.dilation == 1)
        && c.groups == 1
        && [c.input_channels, c.output_channels]
            .iter()
            .all(|channels| channels % WIDTH == 0 && *channels >= CHANNELS_MIN)
}

/// Float32 numbers of scratch, if it applies.
pub(super) fn workspace_len(c: &Convolution, direction: Direction) -> Option<usize> {
    applies(c).then(|| Plan::new(c, direction).total())
}

/// The sizes of one direction.
#[derive(Debug, Clone, Copy)]
struct Plan {
    margins: Margins,
    written: bool,
    /// Channels of the source and of the target.
    inputs: usize,
    outputs: usize,
    /// Extents of the target: planes (of the first axis), lines, places.
    target: [usize; 3],
    /// Patches along the lines and the places.
    patches: [usize; 2],
    /// Images taken together, and patches.
    images: usize,
    block: usize,
}

impl Plan {
    fn new(c: &Convolution, direction: Direction) -> Plan {
        let mut margins = margins(direction, &c.windows);
        let (inputs, outputs, target) = match direction {
            Direction::Forward => (c.input_channels, c.output_channels, c.outputs()),
            Direction::Backward => (c.output_channels, c.input_channels, c.inputs()),
        };
        let patches = [1, 2].map(|axis: usize| target[axis].div_ceil(OUTPUTS));
        for axis in [1, 2] {
            margins.extent[axis] = patches[axis - 1] * OUTPUTS + INPUTS - OUTPUTS;
        }
        let block = BLOCK_NUMBERS / (FREQUENCIES * (inputs + outputs));
        let block = block.max(PATCHES_MIN);
        let per_image = target[0] * patches[0] * patches[1];
        Plan {
            margins,
            written: !margins.none(),
            inputs,
            outputs,
            target,
            patches,
            images: block.div_ceil(per_image).min(c.rows),
            block: block.min(per_image * c.rows),
        }
    }

    fn kernel_len(&self) -> usize {
        FREQUENCIES * self.inputs * self.outputs
    }

    fn margins_len(&self) -> usize {
        if self.written {
            self.images * self.margins.places() * self.inputs
        } else {
            0
        }
    }

    /// Numbers from one frequency of a block to the next. A cache line more than a block: else all sixteen would often
    /// fall into the same set of the first-level cache.
    fn frequency(&self, channels: usize) -> usize {
        self.block * channels + WIDTH
    }

    fn total(&self) -> usize {
        let block = self.frequency(self.inputs) + self.frequency(self.outputs);
        self.kernel_len() + self.margins_len() + FREQUENCIES * block + WIDTH - 1
    }

    /// Place of a patch of a group of images: image, plane, first line and place of its outputs.
    #[inline(always)]
    fn place(&self, patch: usize) -> [usize; 4] {
        let [lines, places] = self.patches;
        let (rest, place) = (patch / places, patch % places);
        let (rest, line) = (rest / lines, rest % lines);
        let (image, plane) = (rest / self.target[0], rest % self.target[0]);
        [image, plane, line * OUTPUTS, place * OUTPUTS]
    }
}

/// Outputs (forward) or input gradients (backward) of a convolution that `applies`.
pub(super) fn convolve(
    c: &Convolution,
    direction: Direction,
    values: &[f32],
    kernel: &[f32],
    out: &mut [f32],
    workspace: &mut [f32],
) {
    let plan = Plan::new(c, direction);
    let (inputs, outputs) = (plan.inputs, plan.outputs);
    let (transformed, rest) = aligned(workspace).split_at_mut(plan.kernel_len());
    let (sources, rest) = rest.split_at_mut(FREQUENCIES * plan.frequency(inputs));
    let (targets, rest) = rest.split_at_mut(FREQUENCIES * plan.frequency(outputs));
    let with_margins = &mut rest[..plan.margins_len()];
    transform_kernel(c, direction, kernel, transformed);

    let image_len = product(plan.margins.image) * inputs;
    let target_len = product(plan.target) * outputs;
    let values = values.chunks(plan.images * image_len);
    let outs = out.chunks_mut(plan.images * target_len);
    for (values, out) in values.zip(outs) {
        let images = out.len() / target_len;
        let (source, layout) = if plan.written {
            let wide = plan.margins.places() * inputs;
            for (image, out) in values
                .chunks_exact(image_len)
                .zip(with_margins.chunks_exact_mut(wide))
            {
                plan.margins.write(image, inputs, 1, out);
            }
            (&*with_margins, Layout::of(plan.margins.extent, inputs))
        } else {
            (values, Layout::of(plan.margins.image, inputs))
        };
        let patches = images * plan.target[0] * plan.patches[0] * plan.patches[1];
        for first in (0..patches).step_by(plan.block) {
            let count = plan.block.min(patches - first);
            transform_source(&plan, &layout, first, count, source, sources);
            multiply_frequencies(&plan, count, sources, transformed, targets);
            transform_target(&plan, first, count, targets, out);
        }
    }
}

/// The sixteen products: sources (16, patches, inputs) by the kernel (16, panels, inputs, 16) to targets (16,
/// patches, outputs).
fn multiply_frequencies(
    plan: &Plan,
    count: usize,
    sources: &[f32],
    kernel: &[f32],
    targets: &mut [f32],
) {
    let (inputs, outputs) = (plan.inputs, plan.outputs);
    let shape = Loop {
        taps: Taps {
            counts: [1; 3],
            steps: [0, 0, inputs],
            run: inputs,
        },
        walk: Walk {
            counts: [1, 1, 1, count],
            start: [0, 0],
            steps: [[0, 0], [0, 0], [0, 0], [inputs, outputs]],
        },
        columns: outputs,
        across: false,
    };
    let sources = sources.chunks_exact(plan.frequency(inputs));
    let kernels = kernel.chunks_exact(inputs * outputs);
    let targets = targets.chunks_exact_mut(plan.frequency(outputs));
    for ((source, kernel), target) in sources.zip(kernels).zip(targets) {
        multiply(&shape, source, kernel, target);
    }
}

/// `G g G'` of every pair of channels, in panels (16, panel, inputs, 16).
fn transform_kernel(c: &Convolution, direction: Direction, kernel: &[f32], out: &mut [f32]) {
    let (inputs, outputs) = (c.input_channels, c.output_channels);
    let (depth, columns) = match direction {
        Direction::Forward => (inputs, outputs),
        Direction::Backward => (outputs, inputs),
    };
    for panel in 0..columns / WIDTH {
        for row in 0..depth {
            let mut taps = [[0.0f32; WIDTH]; 9];
            for (tap, numbers) in taps.iter_mut().enumerate() {
                match direction {
                    Direction::Forward => {
                        let start = (tap * inputs + row) * outputs + panel * WIDTH;
                        numbers.copy_from_slice(&kernel[start..start + WIDTH]);
                    }
                    Direction::Backward => {
                        let flipped = (8 - tap) * inputs + panel * WIDTH;
                        for (lane, number) in numbers.iter_mut().enumerate() {
                            *number = kernel[(flipped + lane) * outputs + row];
                        }
                    }
                }
            }
            for frequency in 0..FREQUENCIES {
                let (first, second) = (frequency / INPUTS, frequency % INPUTS);
                let start = ((frequency * (columns / WIDTH) + panel) * depth + row) * WIDTH;
                for (lane, out) in out[start..start + WIDTH].iter_mut().enumerate() {
                    let along = |line: usize| {
                        let line = &taps[line * 3..line * 3 + 3];
                        transform_taps(second, line[0][lane], line[1][lane], line[2][lane])
                    };
                    *out = transform_taps(first, along(0), along(1), along(2));
                }
            }
        }
    }
}

/// One row of `G` times three taps.
#[inline(always)]
fn transform_taps(row: usize, a: f32, b: f32, c: f32) -> f32 {
    match row {
        0 => a,
        1 => 0.5 * (a + c + b),
        2 => 0.5 * (a + c - b),
        _ => c,
    }
}

vectorised! {
    /// `B' d B` of the patches `first..first + count` of a group of images, to (16, count, inputs).
    fn transform_source<V>(plan: &Plan, layout: &Layout, first: usize, count: usize, source: &[f32], out: &mut [f32]) {
        let inputs = plan.inputs;
        let frequency = plan.frequency(inputs);
        for patch in 0..count {
            let [image, plane, line, place] = plan.place(first + patch);
            let [planes, lines, places] = layout.strides;
            let start = image * layout.image + plane * planes + line * lines + place * places;
            for channel in (0..inputs).step_by(WIDTH) {
                // SAFETY: V's instruction set is there; every read is of a slice of sixteen numbers.
                unsafe {
                    let mut half = [[V::zero(); INPUTS]; INPUTS];
                    for along in 0..INPUTS {
                        let mut d = [V::zero(); INPUTS];
                        for (down, d) in d.iter_mut().enumerate() {
                            let at = start + down * lines + along * places + channel;
                            *d = V::load(source[at..at + WIDTH].as_ptr());
                        }
                        let column = [d[0].subtract(d[2]), d[1].add(d[2]), d[2].subtract(d[1]), d[1].subtract(d[3])];
                        for (half, number) in half.iter_mut().zip(column) {
                            half[along] = number;
                        }
                    }
                    for (down, [a, b, c, d]) in half.into_iter().enumerate() {
                        let row = [a.subtract(c), b.add(c), c.subtract(b), b.subtract(d)];
                        for (along, number) in row.into_iter().enumerate() {
                            let at = (down * INPUTS + along) * frequency + patch * inputs + channel;
                            number.store((&mut out[at..at + WIDTH]).try_into().expect("sixteen numbers"));
                        }
                    }
                }
            }
        }
    }
}

vectorised! {
    /// `A' m A` of the patches `first..first + count`, (16, count, outputs), to their places in a group of images.
    fn transform_target<V>(plan: &Plan, first: usize, count: usize, products: &[f32], out: &mut [f32]) {
        let outputs = plan.outputs;
        let frequency = plan.frequency(outputs);
        let [planes, height, width] = plan.target;
        for patch in 0..count {
            let [image, plane, line, place] = plan.place(first + patch);
            let start = (((image * planes + plane) * height + line) * width + place) * outputs;
            // The last patch of an odd extent is cut.
            let (down_max, along_max) = (OUTPUTS.min(height - line), OUTPUTS.min(width - place));
            for channel in (0..outputs).step_by(WIDTH) {
                // SAFETY: V's instruction set is there; every read is of a slice of sixteen numbers.
                unsafe {
                    let mut half = [[V::zero(); INPUTS]; OUTPUTS];
                    for along in 0..INPUTS {
                        let mut m = [V::zero(); INPUTS];
                        for (down, m) in m.iter_mut().enumerate() {
                            let at = (down * INPUTS + along) * frequency + patch * outputs + channel;
                            *m = V::load(products[at..at + WIDTH].as_ptr());
                        }
                        let column = [m[0].add(m[1]).add(m[2]), m[1].subtract(m[2]).subtract(m[3])];
                        for (half, number) in half.iter_mut().zip(column) {
                            half[along] = number;
                        }
                    }
                    for (down, [a, b, c, d]) in half.into_iter().enumerate().take(down_max) {
                        let row = [a.add(b).add(c), b.subtract(c).subtract(d)];
                        for (along, number) in row.into_iter().enumerate().take(along_max) {
                            let at = start + (down * width + along) * outputs + channel;
                            number.store((&mut out[at..at + WIDTH]).try_into().expect("sixteen numbers"));
                        }
                    }
                }
            }
        }
    }
}
