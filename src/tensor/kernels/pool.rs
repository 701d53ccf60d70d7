//! Pooling over windows of up to three spatial axes, channels last: the greatest number and the mean.
//!
//! Padding is never read and never counted. Knows nothing of layers or of how padding was chosen.

use super::multiversion;
use super::window::Window;

/// What a pooling looks like: (rows, spatial.., channels) to (rows, out.., channels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pool {
    pub rows: usize,
    pub channels: usize,
    /// Leading axes that are not there are `Window::UNUSED`.
    pub windows: [Window; 3],
}

/// Channels that are compared together: two registers of numbers and two of places.
const CHANNELS: usize = 16;

impl Pool {
    pub fn input_len(&self) -> usize {
        let places: usize = self.windows.iter().map(|window| window.input).product();
        self.rows * places * self.channels
    }

    pub fn output_len(&self) -> usize {
        let places: usize = self.windows.iter().map(|window| window.output).product();
        self.rows * places * self.channels
    }

    fn check(&self, inputs: &[usize], output: usize) {
        assert!(
            inputs.iter().all(|&length| length == self.input_len()) && output == self.output_len(),
            "slices must match {self:?}"
        );
        // Offsets within an image are kept in 32 bits.
        assert!(
            u32::try_from(self.input_len() / self.rows.max(1)).is_ok(),
            "an image must have fewer than 2^32 numbers: {self:?}"
        );
    }
}

/// The inputs of one window: three nested counts of steps.
#[derive(Clone, Copy)]
struct Taps {
    start: usize,
    counts: [usize; 3],
    steps: [usize; 3],
}

impl Taps {
    fn len(&self) -> usize {
        self.counts.iter().product()
    }
}

/// A loop over all windows: the offset of a window's output and its inputs.
macro_rules! for_each_window {
    ($p:expr, $output:ident, $taps:ident => $body:block) => {
        let [first, second, third] = &$p.windows;
        let (image, plane) = (first.input * second.input * third.input, second.input * third.input);
        let steps = [first.dilation * plane, second.dilation * third.input, third.dilation];
        let steps = steps.map(|step| step * $p.channels);
        let mut $output = 0;
        for row in 0..$p.rows {
            for one in 0..first.output {
                let (ones, start) = (first.taps(one), row * image);
                let start = start + first.start(one, &ones) * plane;
                for two in 0..second.output {
                    let twos = second.taps(two);
                    let start = start + second.start(two, &twos) * third.input;
                    for three in 0..third.output {
                        let threes = third.taps(three);
                        let $taps = Taps {
                            start: (start + third.start(three, &threes)) * $p.channels,
                            counts: [ones.len(), twos.len(), threes.len()],
                            steps,
                        };
                        $body
                        $output += $p.channels;
                    }
                }
            }
        }
    };
}

/// A loop over the offsets of a window's inputs. No closure: one that is not inlined would be compiled without AVX2.
macro_rules! for_each_tap {
    ($taps:expr, $place:ident => $body:block) => {
        let Taps {
            start,
            counts,
            steps,
        } = $taps;
        for one in 0..counts[0] {
            for two in 0..counts[1] {
                let line = start + one * steps[0] + two * steps[1];
                for three in 0..counts[2] {
                    let $place = line + three * steps[2];
                    $body
                }
            }
        }
    };
}

/// For `LANES` channels, the greatest number of a window (the first of equals; a NaN wins) and its offset from the
/// window's first number, which stays 0 without `PLACES`.
#[inline(always)]
fn greatest<const LANES: usize, const PLACES: bool>(
    x: &[f32],
    taps: &Taps,
    channel: usize,
) -> ([f32; LANES], [u32; LANES]) {
    let mut best: [f32; LANES] = lanes(x, taps.start + channel);
    let mut places = [0u32; LANES];
    for_each_tap!(*taps, place => {
        let x: [f32; LANES] = lanes(x, place + channel);
        let offset = (place - taps.start) as u32;
        for lane in 0..LANES {
            let wins = (x[lane] > best[lane]) | (x[lane].is_nan() & !best[lane].is_nan());
            best[lane] = if wins { x[lane] } else { best[lane] };
            if PLACES {
                places[lane] = if wins { offset } else { places[lane] };
            }
        }
    });
    (best, places)
}

#[inline(always)]
fn lanes<const LANES: usize>(x: &[f32], start: usize) -> [f32; LANES] {
    *x[start..].first_chunk().expect("a window lies inside x")
}

#[inline(always)]
fn pick_lanes<const LANES: usize>(
    x: &[f32],
    values: &[f32],
    taps: &Taps,
    channel: usize,
    out: &mut [f32],
) {
    let out = &mut out[channel..channel + LANES];
    if std::ptr::eq(x, values) {
        out.copy_from_slice(&greatest::<LANES, false>(x, taps, channel).0);
        return;
    }
    let (_, places) = greatest::<LANES, true>(x, taps, channel);
    for (lane, (out, place)) in out.iter_mut().zip(places).enumerate() {
        *out = values[taps.start + place as usize + channel + lane];
    }
}

#[inline(always)]
fn place_lanes<const LANES: usize>(
    x: &[f32],
    dy: &[f32],
    taps: &Taps,
    channel: usize,
    dx: &mut [f32],
) {
    let (_, places) = greatest::<LANES, true>(x, taps, channel);
    let dy: [f32; LANES] = lanes(dy, channel);
    // Adds a zero where nothing was picked, which takes no branch.
    for_each_tap!(*taps, place => {
        let offset = (place - taps.start) as u32;
        let dx = &mut dx[place + channel..][..LANES];
        for lane in 0..LANES {
            dx[lane] += if places[lane] == offset {
                dy[lane]
            } else {
                0.0
            };
        }
    });
}

/// Calls for channels `CHANNELS` by `CHANNELS`, then one by one.
macro_rules! for_channels {
    ($channels:expr, $channel:ident, $lanes:ident ( $($argument:expr),* )) => {
        let whole = $channels / CHANNELS * CHANNELS;
        for $channel in (0..whole).step_by(CHANNELS) {
            $lanes::<CHANNELS>( $($argument),* );
        }
        for $channel in whole..$channels {
            $lanes::<1>( $($argument),* );
        }
    };
}

multiversion! {
    /// For each window and channel the place of the greatest `x` (the first of equals; a NaN wins), and the number of
    /// `values` there: max pooling is `pick(x, x)`. A window wholly outside the input gives 0.
    pub fn pick(p: &Pool, x: &[f32], values: &[f32], out: &mut [f32]) {
        p.check(&[x.len(), values.len()], out.len());
        for_each_window!(p, output, taps => {
            let out = &mut out[output..output + p.channels];
            if taps.len() == 0 {
                out.fill(0.0);
            } else {
                for_channels!(p.channels, channel, pick_lanes(x, values, &taps, channel, out));
            }
        });
    }

    /// The adjoint of `pick` in `values`: `dx` is zero but at the picked places, where `dy` is added.
    pub fn place(p: &Pool, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        p.check(&[x.len(), dx.len()], dy.len());
        dx.fill(0.0);
        for_each_window!(p, output, taps => {
            if taps.len() > 0 {
                let dy = &dy[output..output + p.channels];
                for_channels!(p.channels, channel, place_lanes(x, dy, &taps, channel, dx));
            }
        });
    }

    /// Mean of the numbers inside the input; padding is not counted, as in Keras. A window wholly outside gives 0.
    pub fn average(p: &Pool, x: &[f32], out: &mut [f32]) {
        p.check(&[x.len()], out.len());
        for_each_window!(p, output, taps => {
            let out = &mut out[output..output + p.channels];
            out.fill(0.0);
            for_each_tap!(taps, place => {
                for (out, &x) in out.iter_mut().zip(&x[place..]) {
                    *out += x;
                }
            });
            let count = taps.len().max(1) as f32;
            for out in out.iter_mut() {
                *out /= count;
            }
        });
    }

    /// The adjoint of `average`: each input gets `dy / count` of every window that it lies in.
    pub fn average_spread(p: &Pool, dy: &[f32], dx: &mut [f32]) {
        p.check(&[dx.len()], dy.len());
        dx.fill(0.0);
        for_each_window!(p, output, taps => {
            let dy = &dy[output..output + p.channels];
            let count = taps.len() as f32;
            for_each_tap!(taps, place => {
                for (dx, &dy) in dx[place..].iter_mut().zip(dy) {
                    *dx += dy / count;
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::with_portable_kernels;
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    fn window(
        input: usize,
        output: usize,
        size: usize,
        stride: usize,
        dilation: usize,
        before: usize,
    ) -> Window {
        Window {
            input,
            output,
            size,
            stride,
            dilation,
            before,
        }
    }

    fn cases() -> Vec<Pool> {
        let none = Window::UNUSED;
        let case = |rows, channels, windows| Pool {
            rows,
            channels,
            windows,
        };
        let halves = |input| window(input, input / 2, 2, 2, 1, 0);
        vec![
            case(3, 5, [none, none, halves(8)]),
            case(2, 64, [none, halves(8), halves(6)]),
            case(
                2,
                70,
                [none, window(7, 7, 3, 1, 1, 1), window(5, 3, 3, 2, 1, 1)],
            ),
            case(1, 3, [halves(4), halves(4), halves(6)]),
            case(2, 2, [none, none, window(2, 2, 9, 1, 1, 4)]),
            case(
                2,
                1,
                [none, window(9, 3, 3, 2, 2, 0), window(6, 6, 1, 1, 1, 0)],
            ),
            // The last window reads nothing.
            case(2, 3, [none, none, window(3, 4, 2, 2, 1, 1)]),
            case(0, 3, [none, none, halves(8)]),
        ]
    }

    fn offsets_of_windows(p: &Pool) -> Vec<Vec<usize>> {
        let mut windows = Vec::new();
        let [a, b, c] = p.windows;
        let places = |w: Window, o: usize| {
            (0..w.size)
                .filter_map(move |k| (o * w.stride + k * w.dilation).checked_sub(w.before))
                .filter(move |&place| place < w.input)
        };
        for row in 0..p.rows {
            for (i, j, k) in (0..a.output).flat_map(|i| {
                (0..b.output).flat_map(move |j| (0..c.output).map(move |k| (i, j, k)))
            }) {
                for channel in 0..p.channels {
                    let mut inside = Vec::new();
                    for one in places(a, i) {
                        for two in places(b, j) {
                            for three in places(c, k) {
                                let place =
                                    ((row * a.input + one) * b.input + two) * c.input + three;
                                inside.push(place * p.channels + channel);
                            }
                        }
                    }
                    windows.push(inside);
                }
            }
        }
        windows
    }

    /// Few different numbers, so that there are equals, and a NaN here and there.
    fn numbers(length: usize, operation: u32) -> Vec<f32> {
        let mut stream = RandomKey::of(32, operation).stream(Purpose::Test);
        let mut draw = |_| match stream.below(40) {
            0 => f32::NAN,
            n => (n % 7) as f32 - 4.0,
        };
        (0..length).map(&mut draw).collect()
    }

    fn check_picks(p: &Pool) {
        let x = numbers(p.input_len(), 0);
        let values: Vec<f32> = (0..p.input_len()).map(|index| index as f32).collect();
        let dy: Vec<f32> = (0..p.output_len())
            .map(|index| index as f32 + 1.0)
            .collect();
        let [mut picked, mut highest] = [(); 2].map(|()| vec![9.0; p.output_len()]);
        let mut dx = vec![9.0; p.input_len()];
        pick(p, &x, &values, &mut picked);
        pick(p, &x, &x, &mut highest);
        place(p, &x, &dy, &mut dx);
        let mut expected_dx = vec![0.0; dx.len()];
        for (output, inside) in offsets_of_windows(p).into_iter().enumerate() {
            let best = inside.iter().copied().reduce(|best, at| {
                let wins = !x[best].is_nan() && (x[at].is_nan() || x[at] > x[best]);
                if wins { at } else { best }
            });
            let Some(best) = best else {
                assert_eq!((picked[output], highest[output]), (0.0, 0.0), "{p:?}");
                continue;
            };
            assert_eq!(picked[output], best as f32, "seed 32, {p:?} at {output}");
            assert_eq!(
                highest[output].to_bits(),
                x[best].to_bits(),
                "seed 32, {p:?}"
            );
            expected_dx[best] += dy[output];
        }
        assert_eq!(dx, expected_dx, "seed 32, {p:?}");
    }

    #[test]
    fn the_first_greatest_number_or_nan_of_each_window_is_picked_and_its_gradient_placed_there() {
        for p in cases() {
            check_picks(&p);
            with_portable_kernels(|| check_picks(&p));
        }
    }

    #[test]
    fn means_count_what_lies_inside_and_their_gradient_is_spread_the_same() {
        for p in cases() {
            let mut stream = RandomKey::of(33, 0).stream(Purpose::Test);
            let mut normal =
                |length| -> Vec<f32> { (0..length).map(|_| stream.normal() as f32).collect() };
            let (x, dy) = (normal(p.input_len()), normal(p.output_len()));
            let (mut y, mut dx) = (vec![9.0; dy.len()], vec![9.0; x.len()]);
            average(&p, &x, &mut y);
            average_spread(&p, &dy, &mut dx);
            let mut expected_dx = vec![0.0; dx.len()];
            for (output, inside) in offsets_of_windows(&p).into_iter().enumerate() {
                let count = inside.len().max(1) as f64;
                let sum: f64 = inside.iter().map(|&at| f64::from(x[at])).sum();
                assert!(
                    (f64::from(y[output]) - sum / count).abs() < 1e-6,
                    "seed 33, {p:?}"
                );
                for at in inside {
                    expected_dx[at] += f64::from(dy[output]) / count;
                }
            }
            for (&dx, expected) in dx.iter().zip(expected_dx) {
                assert!((f64::from(dx) - expected).abs() < 1e-5, "seed 33, {p:?}");
            }
        }
    }

    #[test]
    fn portable_and_avx2_means_have_the_same_bits() {
        for p in cases() {
            let x = numbers(p.input_len(), 1);
            let mut best = vec![9.0; p.output_len()];
            let mut portable = best.clone();
            average(&p, &x, &mut best);
            with_portable_kernels(|| average(&p, &x, &mut portable));
            assert!(
                best.iter()
                    .zip(&portable)
                    .all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
            );
        }
    }
}
