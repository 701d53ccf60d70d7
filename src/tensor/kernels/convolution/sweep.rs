//! The geometry of a sweep of a kernel over images, which forward convolutions and their input gradients share.
//!
//! The input gradient of a convolution with stride s is s sweeps per axis, one for each remainder of the input's place:
//! the places of one remainder meet every s-th tap only, and see the output gradient at stride 1. So no product with a
//! zero is computed, and with stride 1 it is the one convolution with the flipped kernel.

use super::super::window::Window;
use super::margins::Margins;

/// Which way numbers flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From inputs to outputs.
    Forward,
    /// From output gradients to input gradients.
    Backward,
}

/// One spatial axis: target `target_start + target_step * p` reads, with tap `t`, the source with its margins at
/// `source_start + source_step * p + tap_step * t`, times the kernel's tap `first_tap + kernel_step * t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub positions: usize,
    pub target_start: usize,
    pub target_step: usize,
    pub source_start: usize,
    pub source_step: usize,
    pub taps: usize,
    pub tap_step: usize,
    pub first_tap: usize,
    pub kernel_step: isize,
}

impl Axis {
    pub(super) fn forward(window: &Window) -> Axis {
        Axis {
            positions: window.output,
            target_start: 0,
            target_step: 1,
            source_start: 0,
            source_step: window.stride,
            taps: window.size,
            tap_step: window.dilation,
            first_tap: 0,
            kernel_step: 1,
        }
    }

    /// The inputs whose place has this remainder by the stride; without taps when no output reads them.
    fn backward(window: &Window, remainder: usize) -> Axis {
        let Window {
            stride, dilation, ..
        } = *window;
        let common = greatest_common_divisor(stride, dilation);
        let (kernel_step, tap_step) = (stride / common, dilation / common);
        let whole = |tap: &usize| {
            (remainder as isize + window.before as isize - (*tap * dilation) as isize)
                .rem_euclid(stride as isize)
                == 0
        };
        let positions = window.input.saturating_sub(remainder).div_ceil(stride);
        let mut axis = Axis {
            positions,
            target_start: remainder,
            target_step: stride,
            source_start: 0,
            source_step: 1,
            taps: 0,
            tap_step,
            first_tap: 0,
            kernel_step: -(kernel_step as isize),
        };
        if let Some(lowest) = (0..kernel_step.min(window.size)).find(whole) {
            axis.taps = (window.size - lowest).div_ceil(kernel_step);
            axis.first_tap = lowest + (axis.taps - 1) * kernel_step;
            let output = (remainder as isize + window.before as isize
                - (axis.first_tap * dilation) as isize)
                .div_euclid(stride as isize);
            axis.source_start = (output - lowest_output(window)) as usize;
        }
        axis
    }
}

/// The first output, perhaps before the first real one, that the first input may meet.
fn lowest_output(window: &Window) -> isize {
    (window.before as isize - ((window.size - 1) * window.dilation) as isize)
        .div_euclid(window.stride as isize)
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// What of the source is read in this direction.
pub(super) fn margins(direction: Direction, windows: &[Window; 3]) -> Margins {
    match direction {
        Direction::Forward => Margins {
            before: windows.map(|window| window.before as isize),
            extent: windows.map(|window| {
                (window.output - 1) * window.stride + (window.size - 1) * window.dilation + 1
            }),
            image: windows.map(|window| window.input),
        },
        Direction::Backward => Margins {
            before: windows.map(|window| -lowest_output(&window)),
            extent: windows.map(|window| {
                let highest = (window.input - 1 + window.before) / window.stride;
                (highest as isize - lowest_output(&window)) as usize + 1
            }),
            image: windows.map(|window| window.output),
        },
    }
}

/// The sweeps of a direction: one forward, backward one per combination of remainders.
pub(super) fn sweeps(
    direction: Direction,
    windows: &[Window; 3],
) -> impl Iterator<Item = [Axis; 3]> + '_ {
    let count = match direction {
        Direction::Forward => [1; 3],
        Direction::Backward => windows.map(|window| window.stride),
    };
    (0..count[0] * count[1] * count[2]).map(move |index| {
        let remainder = [
            index / (count[1] * count[2]),
            index / count[2] % count[1],
            index % count[2],
        ];
        std::array::from_fn(|axis| match direction {
            Direction::Forward => Axis::forward(&windows[axis]),
            Direction::Backward => Axis::backward(&windows[axis], remainder[axis]),
        })
    })
}

/// Where the numbers of images lie: elements between images and between places along each axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub image: usize,
    pub strides: [usize; 3],
}

impl Layout {
    /// Contiguous images of these extents, channels last.
    pub(super) fn of(extents: [usize; 3], channels: usize) -> Layout {
        Layout {
            image: extents.iter().product::<usize>() * channels,
            strides: [
                extents[1] * extents[2] * channels,
                extents[2] * channels,
                channels,
            ],
        }
    }
}

/// The taps of a kernel as offsets into the source: three nested counts of steps, then `run` contiguous numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taps {
    pub counts: [usize; 3],
    pub steps: [usize; 3],
    pub run: usize,
}

impl Taps {
    /// `depth` numbers are read at each tap; taps that are neighbours in memory become one run.
    pub(super) fn new(axes: &[Axis; 3], source: &Layout, depth: usize) -> Taps {
        let mut taps = Taps {
            counts: axes.map(|axis| axis.taps),
            steps: std::array::from_fn(|axis| axes[axis].tap_step * source.strides[axis]),
            run: depth,
        };
        if taps.steps[2] == depth {
            taps.run *= taps.counts[2];
            taps.counts[2] = 1;
        }
        taps
    }

    /// Rows of the kernel seen as a matrix.
    pub(super) fn len(&self) -> usize {
        self.counts.iter().product::<usize>() * self.run
    }

    /// One more than the greatest offset.
    pub(super) fn reach(&self) -> usize {
        let last: usize = (0..3)
            .map(|axis| (self.counts[axis] - 1) * self.steps[axis])
            .sum();
        last + self.run
    }
}

/// Goes through the rows of the kernel; without divisions, which would cost as much as a small tile.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    taps: &'a Taps,
    place: [usize; 3],
    within: usize,
    offset: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    pub(super) fn new(taps: &'a Taps) -> Self {
        Rows {
            taps,
            place: [0; 3],
            within: 0,
            offset: 0,
        }
    }

    /// The offset of this row; moves to the next one.
    #[inline(always)]
    pub(super) fn next(&mut self) -> usize {
        let here = self.offset;
        self.within += 1;
        self.offset += 1;
        if self.within < self.taps.run {
            return here;
        }
        self.within = 0;
        self.offset -= self.taps.run;
        for axis in (0..3).rev() {
            self.place[axis] += 1;
            self.offset += self.taps.steps[axis];
            if self.place[axis] < self.taps.counts[axis] {
                break;
            }
            self.place[axis] = 0;
            self.offset -= self.taps.counts[axis] * self.taps.steps[axis];
        }
        here
    }
}

/// Ranges of the first two axes that are computed together; the third is always whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub start: [usize; 2],
    pub count: [usize; 2],
}

/// Cuts a sweep into blocks of about `positions` positions.
pub(super) fn blocks(axes: &[Axis; 3], positions: usize) -> impl Iterator<Item = Block> + use<> {
    let [first, second, third] = axes.map(|axis| axis.positions);
    let lines = positions.div_ceil(third.max(1)).clamp(1, second.max(1));
    let planes = (positions / (second * third).max(1)).clamp(1, first.max(1));
    (0..first).step_by(planes).flat_map(move |plane| {
        (0..second).step_by(lines).map(move |line| Block {
            start: [plane, line],
            count: [planes.min(first - plane), lines.min(second - line)],
        })
    })
}

/// The positions of a block in several images, as places in two arrays: four nested counts of steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    pub counts: [usize; 4],
    /// Offsets in the source and in the target of the first position.
    pub start: [usize; 2],
    /// For each count, the steps in the source and in the target.
    pub steps: [[usize; 2]; 4],
}

impl Walk {
    pub(super) fn new(
        images: usize,
        block: &Block,
        axes: &[Axis; 3],
        source: &Layout,
        target: &Layout,
    ) -> Walk {
        let first = [block.start[0], block.start[1], 0];
        let [one, two, three] = std::array::from_fn(|axis| {
            [
                axes[axis].source_step * source.strides[axis],
                axes[axis].target_step * target.strides[axis],
            ]
        });
        let start = |axis: usize| {
            let Axis {
                source_start,
                source_step,
                target_start,
                target_step,
                ..
            } = axes[axis];
            [
                (source_start + source_step * first[axis]) * source.strides[axis],
                (target_start + target_step * first[axis]) * target.strides[axis],
            ]
        };
        let starts = [start(0), start(1), start(2)];
        Walk {
            counts: [images, block.count[0], block.count[1], axes[2].positions],
            start: [0, 1].map(|side| starts.iter().map(|start| start[side]).sum()),
            steps: [[source.image, target.image], one, two, three],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.counts.iter().product()
    }

    /// The greatest offsets in the source and in the target; the walk must not be empty.
    pub(super) fn last(&self) -> [usize; 2] {
        [0, 1].map(|side| {
            let steps = self.counts.iter().zip(self.steps);
            self.start[side]
                + steps
                    .map(|(count, step)| (count - 1) * step[side])
                    .sum::<usize>()
        })
    }
}
