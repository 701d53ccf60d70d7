//! All three functions against plain loops in float64, over one table of shapes.

use super::vector::{AT_MOST, Instructions};
use super::*;
use crate::support::random::{Purpose, RandomKey};

/// One axis by its input, size, stride, dilation and padding in front; the output is the longest whose first tap lies
/// inside the input with `after` zeros behind it.
fn axis(
    input: usize,
    size: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
) -> Window {
    let extent = (size - 1) * dilation + 1;
    let output = (input + before + after)
        .checked_sub(extent)
        .map_or(0, |room| room / stride + 1);
    Window {
        input,
        output,
        size,
        stride,
        dilation,
        before,
    }
}

fn valid(input: usize, size: usize, stride: usize) -> Window {
    axis(input, size, stride, 1, 0, 0)
}

/// As Keras pads for "same": the larger half behind.
fn same(input: usize, size: usize, stride: usize, dilation: usize) -> Window {
    let output = input.div_ceil(stride);
    let needed = ((output - 1) * stride + (size - 1) * dilation + 1).saturating_sub(input);
    Window {
        input,
        output,
        size,
        stride,
        dilation,
        before: needed / 2,
    }
}

fn causal(input: usize, size: usize, dilation: usize) -> Window {
    axis(input, size, 1, dilation, (size - 1) * dilation, 0)
}

fn cases() -> Vec<Convolution> {
    let none = Window::UNUSED;
    let case = |rows, windows, input_channels, output_channels, groups| Convolution {
        rows,
        windows,
        input_channels,
        output_channels,
        groups,
    };
    vec![
        // One axis.
        case(2, [none, none, valid(9, 3, 1)], 4, 5, 1),
        case(3, [none, none, same(10, 3, 2, 1)], 3, 16, 1),
        case(2, [none, none, causal(11, 3, 2)], 5, 7, 1),
        case(1, [none, none, causal(2, 9, 1)], 2, 33, 1),
        case(4, [none, none, same(3, 7, 1, 1)], 1, 1, 1),
        case(2, [none, none, axis(7, 2, 3, 1, 0, 0)], 2, 3, 1),
        case(2, [none, none, axis(12, 3, 2, 4, 3, 3)], 2, 3, 1),
        case(2, [none, none, axis(13, 4, 4, 6, 5, 9)], 2, 3, 1),
        case(2, [none, none, axis(5, 2, 1, 1, 4, 0)], 2, 3, 1),
        // Two axes.
        case(2, [none, valid(7, 3, 1), valid(8, 3, 1)], 1, 32, 1),
        case(3, [none, same(8, 3, 1, 1), same(8, 3, 1, 1)], 16, 16, 1),
        case(2, [none, same(9, 3, 2, 1), same(7, 3, 2, 1)], 3, 70, 1),
        case(2, [none, same(6, 5, 1, 1), same(5, 2, 1, 1)], 4, 6, 1),
        case(2, [none, same(9, 3, 1, 2), same(7, 3, 1, 3)], 3, 17, 1),
        case(1, [none, same(2, 5, 1, 1), same(3, 7, 2, 1)], 2, 3, 1),
        case(2, [none, valid(8, 1, 2), valid(8, 1, 2)], 5, 9, 1),
        case(3, [none, valid(4, 1, 1), valid(5, 1, 1)], 6, 7, 1),
        case(2, [none, valid(1, 1, 1), valid(9, 3, 3)], 2, 48, 1),
        case(1, [none, valid(40, 3, 1), valid(41, 3, 1)], 2, 5, 1),
        case(300, [none, valid(2, 2, 1), valid(2, 2, 1)], 3, 4, 1),
        case(5, [none, axis(6, 3, 1, 1, 3, 3), valid(5, 2, 5)], 3, 4, 1),
        // Two axes of three taps and many channels, which are transformed.
        case(2, [none, same(7, 3, 1, 1), same(5, 3, 1, 1)], 32, 48, 1),
        case(5, [none, valid(9, 3, 1), valid(8, 3, 1)], 48, 32, 1),
        case(70, [none, valid(3, 3, 1), same(1, 3, 1, 1)], 32, 32, 1),
        case(
            1,
            [valid(2, 1, 1), axis(4, 3, 1, 1, 5, 1), same(40, 3, 1, 1)],
            32,
            32,
            1,
        ),
        // Three axes.
        case(
            2,
            [same(4, 3, 1, 1), same(5, 3, 2, 1), same(6, 3, 1, 1)],
            3,
            5,
            1,
        ),
        case(
            2,
            [valid(4, 2, 2), valid(5, 3, 1), same(6, 3, 3, 1)],
            2,
            20,
            1,
        ),
        case(
            1,
            [same(20, 3, 1, 1), valid(9, 2, 1), valid(9, 2, 1)],
            2,
            3,
            1,
        ),
        // A pointwise kernel large enough for BLAS's gradient.
        case(2, [none, none, valid(3, 1, 1)], 160, 208, 1),
        // Groups.
        case(2, [none, none, same(9, 3, 1, 1)], 6, 9, 3),
        case(2, [none, same(6, 3, 1, 1), same(7, 3, 2, 1)], 8, 40, 2),
        case(2, [none, valid(4, 1, 1), valid(4, 1, 1)], 4, 6, 2),
        // Depthwise, with multipliers.
        case(2, [none, none, causal(9, 3, 2)], 5, 5, 5),
        case(2, [none, same(8, 3, 1, 1), same(9, 3, 1, 1)], 32, 32, 32),
        case(2, [none, same(8, 3, 2, 1), same(9, 3, 2, 1)], 19, 19, 19),
        case(3, [none, valid(5, 2, 1), same(6, 4, 3, 1)], 7, 21, 7),
        case(2, [none, same(5, 3, 1, 2), valid(6, 3, 1)], 16, 32, 16),
        case(2, [none, valid(4, 1, 1), valid(4, 1, 1)], 3, 6, 3),
        case(
            2,
            [same(3, 3, 1, 1), same(4, 3, 2, 1), same(5, 2, 1, 1)],
            3,
            3,
            3,
        ),
        // Nothing to do.
        case(0, [none, none, valid(5, 3, 1)], 2, 3, 1),
        case(2, [none, none, valid(2, 3, 1)], 2, 3, 1),
    ]
}

/// Calls with the indices in x, kernel and y of every product of the definition.
fn for_each_product(c: &Convolution, mut each: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs, sizes) = (c.inputs(), c.outputs(), c.windows.map(|w| w.size));
    let (ci, co) = (c.input_channels / c.groups, c.output_channels / c.groups);
    let places = |extents: [usize; 3]| {
        (0..product(extents)).map(move |index| {
            let [_, second, third] = extents;
            [
                index / (second * third),
                index / third % second,
                index % third,
            ]
        })
    };
    let flat = |place: [usize; 3], extents: [usize; 3]| {
        (place[0] * extents[1] + place[1]) * extents[2] + place[2]
    };
    for row in 0..c.rows {
        for output in places(outputs) {
            for tap in places(sizes) {
                let mut input = [0; 3];
                let inside = (0..3).all(|axis| {
                    let w = &c.windows[axis];
                    let place = (output[axis] * w.stride + tap[axis] * w.dilation) as isize
                        - w.before as isize;
                    input[axis] = place.max(0) as usize;
                    place >= 0 && input[axis] < inputs[axis]
                });
                if !inside {
                    continue;
                }
                let x = (row * product(inputs) + flat(input, inputs)) * c.input_channels;
                let y = (row * product(outputs) + flat(output, outputs)) * c.output_channels;
                for group in 0..c.groups {
                    for i in 0..ci {
                        for o in 0..co {
                            let k = (flat(tap, sizes) * ci + i) * c.output_channels;
                            each(x + group * ci + i, k + group * co + o, y + group * co + o);
                        }
                    }
                }
            }
        }
    }
}

struct Numbers {
    x: Vec<f32>,
    kernel: Vec<f32>,
    dy: Vec<f32>,
}

fn numbers(c: &Convolution) -> Numbers {
    let mut stream = RandomKey::of(31, 0).stream(Purpose::Test);
    let mut normal = |count: usize| (0..count).map(|_| stream.normal() as f32).collect();
    Numbers {
        x: normal(c.input_len()),
        kernel: normal(c.kernel_len()),
        dy: normal(c.output_len()),
    }
}

/// y, dx and dk by the three functions.
fn run(c: &Convolution, numbers: &Numbers) -> [Vec<f32>; 3] {
    blas::use_one_thread();
    let Numbers { x, kernel, dy } = numbers;
    // A NaN that was read before it was written would show.
    let mut workspace = vec![f32::NAN; c.workspace_len()];
    let [mut y, mut dx, mut dk] =
        [c.output_len(), c.input_len(), c.kernel_len()].map(|length| vec![f32::NAN; length]);
    forward(c, x, kernel, &mut y, &mut workspace);
    workspace.fill(f32::NAN);
    input_gradient(c, dy, kernel, &mut dx, &mut workspace);
    workspace.fill(f32::NAN);
    kernel_gradient(c, x, dy, &mut dk, &mut workspace);
    [y, dx, dk]
}

/// The same by the definition, and for each the sum of the products' absolute values.
fn reference(c: &Convolution, numbers: &Numbers) -> [Vec<(f64, f64)>; 3] {
    let Numbers { x, kernel, dy } = numbers;
    let [mut y, mut dx, mut dk] =
        [c.output_len(), c.input_len(), c.kernel_len()].map(|length| vec![(0.0, 0.0); length]);
    for_each_product(c, |at_x, at_kernel, at_y| {
        let (x, kernel, gradient) = (x[at_x], kernel[at_kernel], dy[at_y]);
        for (sum, a, b) in [
            (&mut y[at_y], x, kernel),
            (&mut dx[at_x], gradient, kernel),
            (&mut dk[at_kernel], x, gradient),
        ] {
            let product = f64::from(a) * f64::from(b);
            sum.0 += product;
            sum.1 += product.abs();
        }
    });
    [y, dx, dk]
}

fn check_against_reference() {
    for c in cases() {
        let numbers = numbers(&c);
        let found = run(&c, &numbers);
        let expected = reference(&c, &numbers);
        for (which, (found, expected)) in found.iter().zip(&expected).enumerate() {
            for (index, (&found, &(sum, size))) in found.iter().zip(expected).enumerate() {
                assert!(
                    (f64::from(found) - sum).abs() <= 1e-6 * size,
                    "seed 31, {c:?}: {} at {index}: {found} {sum}",
                    ["y", "dx", "dk"][which]
                );
            }
        }
    }
}

#[test]
fn all_three_functions_agree_with_the_definition_in_float64() {
    check_against_reference();
}

#[test]
fn the_portable_version_agrees_with_the_definition_in_float64() {
    with_at_most(Instructions::Portable, check_against_reference);
}

#[test]
fn avx2_and_avx512_give_the_same_bits() {
    for c in cases() {
        let numbers = numbers(&c);
        let best = run(&c, &numbers);
        let avx2 = with_at_most(Instructions::Avx2, || run(&c, &numbers));
        assert!(
            best.iter()
                .flatten()
                .map(|x| x.to_bits())
                .eq(avx2.iter().flatten().map(|x| x.to_bits())),
            "{c:?}"
        );
    }
}

fn with_at_most<T>(instructions: Instructions, run: impl FnOnce() -> T) -> T {
    AT_MOST.set(instructions);
    let result = run();
    AT_MOST.set(Instructions::Avx512);
    result
}

#[test]
fn both_gradients_are_adjoint_to_the_convolution() {
    for c in cases() {
        let numbers = numbers(&c);
        let [y, dx, dk] = run(&c, &numbers);
        let dot = |a: &[f32], b: &[f32]| -> (f64, f64) {
            let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
            products.fold((0.0, 1.0), |(sum, size), product| {
                (sum + product, size + product.abs())
            })
        };
        let (through_y, size) = dot(&y, &numbers.dy);
        for (through, _) in [dot(&dx, &numbers.x), dot(&dk, &numbers.kernel)] {
            assert!(
                (through - through_y).abs() < 1e-5 * size,
                "seed 31, {c:?}: {through} {through_y}"
            );
        }
    }
}

#[test]
fn an_image_convolves_the_same_in_any_batch() {
    for c in cases() {
        if c.rows < 2 || c.is_pointwise() {
            continue;
        }
        let many = numbers(&c);
        let [y, dx, _] = run(&c, &many);
        let one = Convolution { rows: 1, ..c };
        let last = Numbers {
            x: many.x[many.x.len() - one.input_len()..].to_vec(),
            kernel: many.kernel,
            dy: many.dy[many.dy.len() - one.output_len()..].to_vec(),
        };
        let [y_of_one, dx_of_one, _] = run(&one, &last);
        assert_eq!(y_of_one, y[y.len() - y_of_one.len()..], "{c:?}");
        assert_eq!(dx_of_one, dx[dx.len() - dx_of_one.len()..], "{c:?}");
    }
}

#[test]
#[should_panic(expected = "slices must match")]
fn a_slice_that_does_not_match_is_refused() {
    let c = cases()[0];
    let mut y = vec![0.0; c.output_len() - 1];
    let Numbers { x, kernel, .. } = numbers(&c);
    forward(&c, &x, &kernel, &mut y, &mut vec![0.0; c.workspace_len()]);
}
