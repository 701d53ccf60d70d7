//! Convolution over up to three spatial axes and its two gradients, channels last.
//!
//! A pointwise convolution is a matrix product and goes to BLAS (but the gradient of a small kernel). Every other one is
//! swept directly over images whose margins are written out (`margins.rs`), with the kernel packed in panels of sixteen
//! columns (`sweep.rs` for the geometry, `tile.rs` for the loops); with 3 x 3 taps and enough channels, outputs and input gradients take less than
//! half of the multiplications (`winograd.rs`). Nothing is allocated; all scratch is the caller's.
//!
//! Knows nothing of layers, padding names or threads. A sum's order depends on the shapes alone.

mod margins;
mod sweep;
#[cfg(test)]
mod tests;
mod tile;
mod vector;
mod winograd;

use super::window::Window;
use crate::tensor::blas::{self, Product};
use margins::Margins;
use sweep::{Axis, Direction, Layout, Taps, Walk, blocks, margins, sweeps};
use tile::Loop;
use vector::WIDTH;

/// What a convolution looks like; leading axes that are not there are `Window::UNUSED`.
///
/// `y[o, co] = sum over taps k and channels ci of x[o * stride + k * dilation - before, ci] * kernel[k, ci, co]`,
/// where output channel `co` sees the input channels of its own group only. Shapes: x (rows, spatial..,
/// input_channels), kernel (taps.., input_channels / groups, output_channels), y (rows, out.., output_channels), as in
/// Keras and TensorFlow. Output channels of group g are `g * output_channels / groups` and those that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Convolution {
    pub rows: usize,
    pub windows: [Window; 3],
    pub input_channels: usize,
    pub output_channels: usize,
    /// Divides both numbers of channels.
    pub groups: usize,
}

/// Positions of a block when the kernel is swept over images: enough that reading a panel from the second-level
/// cache is cheap beside the products with it.
const POSITIONS_MIN: usize = 128;

/// Float32 numbers of a block's source and target in a sweep: a quarter of a second-level cache of 1 MiB.
const SWEEP_NUMBERS: usize = 64 * 1024;

/// Float32 numbers of a block in a kernel gradient, which are read once per tile of the kernel: most of a first-level
/// cache of 32 KiB.
const ACCUMULATION_NUMBERS: usize = 6 * 1024;

/// Numbers of a pointwise kernel from which BLAS is no slower at its gradient, a small matrix of long sums: measured
/// at 64 x 64 (67 to 90 against 103 GFLOP/s) and 256 x 256 (91 against 91).
const PRODUCT_MIN: usize = 32 * 1024;

impl Convolution {
    pub fn input_len(&self) -> usize {
        self.rows * product(self.inputs()) * self.input_channels
    }

    pub fn kernel_len(&self) -> usize {
        self.taps() * (self.input_channels / self.groups) * self.output_channels
    }

    pub fn output_len(&self) -> usize {
        self.rows * product(self.outputs()) * self.output_channels
    }

    /// Multiplications and additions of each of the three functions, those with the padding's zeros included.
    pub fn flops(&self) -> u64 {
        let per_output = self.taps() as u64 * (self.input_channels / self.groups) as u64;
        2 * self.output_len() as u64 * per_output
    }

    /// Float32 numbers of scratch that each of the three functions may use.
    pub fn workspace_len(&self) -> usize {
        if self.is_empty() || self.is_pointwise() {
            return 0;
        }
        [Direction::Forward, Direction::Backward]
            .map(|direction| {
                let swept = Scratch::new(self, direction).total();
                winograd::workspace_len(self, direction).map_or(swept, |len| len.max(swept))
            })
            .into_iter()
            .fold(0, usize::max)
    }

    fn inputs(&self) -> [usize; 3] {
        self.windows.map(|window| window.input)
    }

    fn outputs(&self) -> [usize; 3] {
        self.windows.map(|window| window.output)
    }

    fn taps(&self) -> usize {
        product(self.windows.map(|window| window.size))
    }

    fn is_empty(&self) -> bool {
        self.input_len() == 0 || self.output_len() == 0 || self.kernel_len() == 0
    }

    fn is_pointwise(&self) -> bool {
        self.groups == 1 && self.windows.iter().all(Window::is_identity)
    }

    /// Each output channel sees one input channel.
    fn is_depthwise(&self) -> bool {
        self.groups == self.input_channels && self.groups > 1
    }

    /// The matrix product that a pointwise convolution is.
    fn product(&self) -> Product {
        Product {
            m: self.rows * product(self.inputs()),
            n: self.output_channels,
            k: self.input_channels,
            transpose_a: false,
            transpose_b: false,
        }
    }

    fn check(&self, x: usize, kernel: usize, y: usize, workspace: usize) {
        let lengths = [self.input_len(), self.kernel_len(), self.output_len()];
        assert!(
            [x, kernel, y] == lengths && workspace >= self.workspace_len(),
            "slices must match {self:?}"
        );
    }
}

/// `y` from `x` and `kernel`; overwrites `y`. Panics when a slice does not match the shapes.
pub fn forward(c: &Convolution, x: &[f32], kernel: &[f32], y: &mut [f32], workspace: &mut [f32]) {
    c.check(x.len(), kernel.len(), y.len(), workspace.len());
    if c.is_empty() {
        y.fill(0.0);
    } else if c.is_pointwise() {
        blas::multiply(&c.product(), x, kernel, y);
    } else {
        convolve(c, Direction::Forward, x, kernel, y, workspace);
    }
}

/// The gradient `dx` of the sum of `y * dy`; overwrites `dx`. Panics when a slice does not match the shapes.
pub fn input_gradient(
    c: &Convolution,
    dy: &[f32],
    kernel: &[f32],
    dx: &mut [f32],
    workspace: &mut [f32],
) {
    c.check(dx.len(), kernel.len(), dy.len(), workspace.len());
    if c.is_empty() {
        dx.fill(0.0);
    } else if c.is_pointwise() {
        let product = Product {
            n: c.input_channels,
            k: c.output_channels,
            transpose_b: true,
            ..c.product()
        };
        blas::multiply(&product, dy, kernel, dx);
    } else {
        convolve(c, Direction::Backward, dy, kernel, dx, workspace);
    }
}

/// The gradient `dk` of the sum of `y * dy`; overwrites `dk`. Panics when a slice does not match the shapes.
pub fn kernel_gradient(
    c: &Convolution,
    x: &[f32],
    dy: &[f32],
    dk: &mut [f32],
    workspace: &mut [f32],
) {
    c.check(x.len(), dk.len(), dy.len(), workspace.len());
    if c.is_empty() {
        dk.fill(0.0);
    } else if c.is_pointwise() && dk.len() >= PRODUCT_MIN {
        let product = Product {
            m: c.input_channels,
            k: c.product().m,
            transpose_a: true,
            ..c.product()
        };
        blas::multiply(&product, x, dy, dk);
    } else {
        accumulate(c, x, dy, dk, workspace);
    }
}

/// What a direction needs beside its arguments, and how its channels are cut.
#[derive(Debug, Clone, Copy)]
struct Scratch {
    margins: Margins,
    /// Channels of the source as given, and how often each is repeated when its margins are written.
    channels: usize,
    repeat: usize,
    /// Groups that are swept one by one; a depthwise convolution is one sweep across its channels.
    groups: usize,
    /// Numbers read per tap and group, and channels of the target per group.
    depth: usize,
    columns: usize,
    /// Images that are taken together.
    images: usize,
    /// Whether the source's margins must be written.
    written: bool,
    packed_len: usize,
    margins_len: usize,
    /// A depthwise input gradient before its sums over the multiplier.
    wide_len: usize,
}

impl Scratch {
    fn new(c: &Convolution, direction: Direction) -> Scratch {
        let margins = margins(direction, &c.windows);
        let (channels, columns, targets) = match direction {
            Direction::Forward => (c.input_channels, c.output_channels, c.outputs()),
            Direction::Backward => (c.output_channels, c.input_channels, c.inputs()),
        };
        let positions = product(targets);
        let images = POSITIONS_MIN.div_ceil(positions).min(c.rows);
        let mut scratch = Scratch {
            margins,
            channels,
            repeat: 1,
            groups: c.groups,
            depth: channels / c.groups,
            columns: columns / c.groups,
            images,
            written: !margins.none(),
            packed_len: 0,
            margins_len: 0,
            wide_len: 0,
        };
        if c.is_depthwise() {
            let multiplier = c.output_channels / c.input_channels;
            (scratch.groups, scratch.depth, scratch.columns) = (1, 1, c.output_channels);
            if multiplier > 1 && direction == Direction::Forward {
                (scratch.repeat, scratch.written) = (multiplier, true);
            }
            if multiplier > 1 && direction == Direction::Backward {
                scratch.wide_len = images * positions * c.output_channels;
            }
        }
        let panels = scratch.groups * scratch.columns.div_ceil(WIDTH);
        scratch.packed_len = panels * c.taps() * scratch.depth * WIDTH;
        if scratch.written {
            scratch.margins_len = images * margins.places() * channels * scratch.repeat;
        }
        scratch
    }

    fn total(&self) -> usize {
        self.packed_len + self.margins_len + self.wide_len + WIDTH - 1
    }

    /// Where the numbers of a source that is ready to be swept lie.
    fn source(&self) -> Layout {
        if self.written {
            Layout::of(self.margins.extent, self.channels * self.repeat)
        } else {
            Layout::of(self.margins.image, self.channels)
        }
    }

    /// The images ready to be swept: as given, or written with their margins into `out`.
    fn prepare<'a>(&self, images: &'a [f32], out: &'a mut [f32]) -> &'a [f32] {
        if !self.written {
            return images;
        }
        let image = product(self.margins.image) * self.channels;
        let wide = self.margins.places() * self.channels * self.repeat;
        for (image, out) in images.chunks_exact(image).zip(out.chunks_exact_mut(wide)) {
            self.margins.write(image, self.channels, self.repeat, out);
        }
        out
    }

    /// Positions per block so that the source and target of a block are about `numbers` numbers.
    fn positions(&self, c: &Convolution, numbers: usize) -> usize {
        let per_position = self.channels * self.repeat + c.output_channels.max(c.input_channels);
        (numbers / per_position).max(POSITIONS_MIN)
    }
}

/// Sweeps the kernel over all images, forward or backward.
fn convolve(
    c: &Convolution,
    direction: Direction,
    values: &[f32],
    kernel: &[f32],
    out: &mut [f32],
    workspace: &mut [f32],
) {
    if winograd::applies(c) {
        return winograd::convolve(c, direction, values, kernel, out, workspace);
    }
    let scratch = Scratch::new(c, direction);
    let (packed, rest) = aligned(workspace).split_at_mut(scratch.packed_len);
    let (with_margins, rest) = rest.split_at_mut(scratch.margins_len);
    let wide = &mut rest[..scratch.wide_len];
    let source = scratch.source();
    let (extents, channels) = match direction {
        Direction::Forward => (c.outputs(), c.output_channels),
        Direction::Backward => (c.inputs(), c.input_channels),
    };
    let target = Layout::of(extents, scratch.groups * scratch.columns);
    let meets = |axes: &[Axis; 3]| axes.iter().all(|axis| axis.taps > 0);

    let mut filled = 0;
    let mut all_met = true;
    for axes in sweeps(direction, &c.windows) {
        if meets(&axes) {
            filled += pack(c, &scratch, direction, &axes, kernel, &mut packed[filled..]);
        } else {
            all_met = false;
        }
    }

    let positions = scratch.positions(c, SWEEP_NUMBERS);
    let values = values.chunks(scratch.images * product(scratch.margins.image) * scratch.channels);
    let outs = out.chunks_mut(scratch.images * product(extents) * channels);
    for (values, out) in values.zip(outs) {
        let images = out.len() / (product(extents) * channels);
        let wide_len = scratch.wide_len / scratch.images * images;
        let written = images * scratch.margins_len / scratch.images;
        let from = scratch.prepare(values, &mut with_margins[..written]);
        let to = if scratch.wide_len > 0 {
            &mut wide[..wide_len]
        } else {
            &mut *out
        };
        if !all_met {
            to.fill(0.0);
        }
        let mut packed = &packed[..filled];
        for axes in sweeps(direction, &c.windows).filter(meets) {
            let taps = Taps::new(&axes, &source, scratch.depth);
            let group_len = scratch.columns.div_ceil(WIDTH) * taps.len() * WIDTH;
            for block in blocks(&axes, positions) {
                let shape = Loop {
                    taps,
                    walk: Walk::new(images, &block, &axes, &source, &target),
                    columns: scratch.columns,
                    across: c.is_depthwise(),
                };
                for group in 0..scratch.groups {
                    tile::multiply(
                        &shape,
                        &from[group * scratch.depth..],
                        &packed[group * group_len..][..group_len],
                        &mut to[group * scratch.columns..],
                    );
                }
            }
            packed = &packed[scratch.groups * group_len..];
        }
        if scratch.wide_len > 0 {
            let multiplier = c.output_channels / c.input_channels;
            for (out, wide) in out.iter_mut().zip(to_groups(wide, multiplier)) {
                *out = wide.iter().sum();
            }
        }
    }
}

fn to_groups(wide: &[f32], multiplier: usize) -> impl Iterator<Item = &[f32]> {
    wide.chunks_exact(multiplier)
}

/// Writes the kernel's rows for a sweep in panels (group, panel, tap, depth, 16), absent columns as zeros, and gives
/// the length.
fn pack(
    c: &Convolution,
    scratch: &Scratch,
    direction: Direction,
    axes: &[Axis; 3],
    kernel: &[f32],
    out: &mut [f32],
) -> usize {
    let Scratch {
        groups,
        depth,
        columns,
        ..
    } = *scratch;
    let (inputs, outputs) = (c.input_channels / c.groups, c.output_channels);
    let per_group = outputs / c.groups;
    let [_, second, third] = c.windows.map(|window| window.size);
    let tap = |axis: usize, t: usize| {
        let axis = &axes[axis];
        (axis.first_tap as isize + axis.kernel_step * t as isize) as usize
    };
    let mut filled = 0;
    for group in 0..groups {
        for panel in 0..columns.div_ceil(WIDTH) {
            let first = panel * WIDTH;
            let width = WIDTH.min(columns - first);
            for one in 0..axes[0].taps {
                for two in 0..axes[1].taps {
                    for three in 0..axes[2].taps {
                        let tap = (tap(0, one) * second + tap(1, two)) * third + tap(2, three);
                        let kernel = &kernel[tap * inputs * outputs..][..inputs * outputs];
                        for row in 0..depth {
                            let out = &mut out[filled..filled + WIDTH];
                            out[width..].fill(0.0);
                            if direction == Direction::Forward || c.is_depthwise() {
                                let start = row * outputs + group * per_group + first;
                                out[..width].copy_from_slice(&kernel[start..start + width]);
                            } else {
                                let column = group * per_group + row;
                                for (lane, out) in out[..width].iter_mut().enumerate() {
                                    *out = kernel[(first + lane) * outputs + column];
                                }
                            }
                            filled += WIDTH;
                        }
                    }
                }
            }
        }
    }
    filled
}

/// The kernel's gradient, block by block of positions.
fn accumulate(c: &Convolution, x: &[f32], dy: &[f32], dk: &mut [f32], workspace: &mut [f32]) {
    let scratch = Scratch::new(c, Direction::Forward);
    let source = scratch.source();
    let target = Layout::of(c.outputs(), c.output_channels);
    let axes = c.windows.map(|window| Axis::forward(&window));
    let taps = Taps::new(&axes, &source, scratch.depth);
    let positions = scratch.positions(c, ACCUMULATION_NUMBERS);
    let workspace = aligned(workspace);
    dk.fill(0.0);
    let xs = x.chunks(scratch.images * product(c.inputs()) * c.input_channels);
    let dys = dy.chunks(scratch.images * target.image);
    for (x, dy) in xs.zip(dys) {
        let images = dy.len() / target.image;
        let written = images * scratch.margins_len / scratch.images;
        let x = scratch.prepare(x, &mut workspace[..written]);
        for block in blocks(&axes, positions) {
            let shape = Loop {
                taps,
                walk: Walk::new(images, &block, &axes, &source, &target),
                columns: scratch.columns,
                across: c.is_depthwise(),
            };
            for group in 0..scratch.groups {
                tile::accumulate(
                    &shape,
                    &x[group * scratch.depth..],
                    &dy[group * scratch.columns..],
                    &mut dk[group * scratch.columns..],
                    c.output_channels,
                );
            }
        }
    }
}

/// The workspace from its first whole cache line on: vectors that straddle two lines are read at half the speed.
fn aligned(workspace: &mut [f32]) -> &mut [f32] {
    let skipped = workspace.as_ptr().align_offset(size_of::<[f32; WIDTH]>());
    let skipped = skipped.min(WIDTH - 1).min(workspace.len());
    &mut workspace[skipped..]
}

fn product(extents: [usize; 3]) -> usize {
    extents.iter().product()
}
