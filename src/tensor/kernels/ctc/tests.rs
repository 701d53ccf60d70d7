//! Against every path written out, and against float64 where there are too many.

use super::super::with_portable_kernels;
use super::*;
use crate::support::random::{Purpose, RandomKey};

#[test]
fn loss_and_gradient_are_those_of_all_paths_written_out() {
    let labels: [&[f32]; 8] = [
        &[0.0, 0.0, 0.0],
        &[1.0, 0.0, 0.0],
        &[1.0, 2.0, 0.0],
        &[2.0, 2.0, 0.0],
        &[1.0, 1.0, 2.0],
        &[1.0, 2.0, 1.0],
        &[2.0, 1.0, 1.0],
        &[1.0, 2.0, 2.0],
    ];
    for steps in [4, 5, 6] {
        let alignment = Alignment {
            steps,
            classes: 3,
            labels: 3,
        };
        let log_p = log_probabilities(labels.len(), steps, 3, 1.5);
        let dy: Vec<f32> = (0..labels.len()).map(|row| row as f32 - 2.5).collect();
        let (losses, slopes) = run(&alignment, &log_p, &labels.concat(), &dy);
        for (row, label) in labels.iter().enumerate() {
            let log_p = &log_p[row * steps * 3..(row + 1) * steps * 3];
            let (loss, slope) = by_paths(steps, 3, log_p, label);
            close(losses[row], loss, loss.abs().max(1.0));
            for (at, expected) in slope.iter().enumerate() {
                let expected = expected * f64::from(dy[row]);
                close(slopes[row * steps * 3 + at], expected, 1.0);
            }
            let plain: Vec<f64> = log_p.iter().map(|&x| f64::from(x)).collect();
            let wide: Vec<f64> = label.iter().map(|&x| f64::from(x)).collect();
            let in_float64 = loss_in_float64(3, &plain, &wide);
            assert!(
                (in_float64 - loss).abs() < 1e-12,
                "{label:?}: {in_float64}, {loss}"
            );
        }
    }
}

#[test]
fn many_steps_agree_with_float64() {
    for (steps, classes, length, scale) in
        [(300, 20, 60, 2.0), (1000, 5, 100, 30.0), (64, 4, 32, 0.1)]
    {
        let alignment = Alignment {
            steps,
            classes,
            labels: length + 3,
        };
        let log_p = log_probabilities(1, steps, classes, scale);
        let mut label: Vec<f32> = (0..length)
            .map(|place| (1 + place * place % (classes - 1)) as f32)
            .collect();
        // Equal neighbours need a blank each; the last case has room for none.
        if steps < 2 * length + 1 {
            label = (0..length).map(|place| (1 + place % 2) as f32).collect();
        }
        label.extend([0.0; 3]);
        let (losses, slopes) = run(&alignment, &log_p, &label, &[1.0]);
        let plain: Vec<f64> = log_p.iter().map(|&x| f64::from(x)).collect();
        let wide: Vec<f64> = label.iter().map(|&x| f64::from(x)).collect();
        let expected = loss_in_float64(classes, &plain, &wide);
        println!(
            "{steps} steps: {} and {expected}, apart by {:e}",
            losses[0],
            (f64::from(losses[0]) - expected) / expected
        );
        close(losses[0], expected, expected.abs() / 10.0);
        for at in (0..log_p.len()).step_by(log_p.len() / 97) {
            let moved = |by: f64| {
                let mut moved = plain.clone();
                moved[at] += by;
                loss_in_float64(classes, &moved, &wide)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (f64::from(slopes[at]) - slope).abs() < 1e-4,
                "{steps} steps at {at}: {}, by differences {slope}",
                slopes[at]
            );
        }
        // Some state is met at every step.
        for step in slopes.chunks(classes) {
            close(step.iter().sum::<f32>(), -1.0, 1.0);
        }
    }
}

#[test]
fn a_path_of_probability_0_has_an_infinite_loss_and_a_nan_stays_one() {
    let alignment = Alignment {
        steps: 2,
        classes: 2,
        labels: 2,
    };
    let certain = [0.0, f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    let (losses, _) = run(&alignment, &certain, &[1.0, 0.0], &[1.0]);
    assert_eq!(losses, [f32::INFINITY]);
    assert_eq!(run(&alignment, &certain, &[0.0, 0.0], &[1.0]).0, [0.0]);
    let (losses, slopes) = run(&alignment, &[f32::NAN; 4], &[1.0, 0.0], &[1.0]);
    assert!(losses[0].is_nan() && slopes.iter().all(|slope| slope.is_nan()));
    assert_eq!(
        loss_in_float64(2, &[0.0, f64::NEG_INFINITY], &[1.0, 0.0]),
        f64::INFINITY
    );
    assert_eq!(
        loss_in_float64(2, &[-0.5, -0.5], &[1.0, 1.0]),
        f64::INFINITY
    );
    assert!(loss_in_float64(2, &[-0.5, -0.5], &[0.0, 1.0]).is_nan());
}

#[test]
fn a_label_that_no_path_reads_as_is_refused_with_its_row() {
    let alignment = Alignment {
        steps: 3,
        classes: 3,
        labels: 3,
    };
    for (label, expected) in [
        (
            [1.0, 3.0, 0.0],
            BadLabel::OutOfRange {
                position: 4,
                index: 3,
            },
        ),
        (
            [1.0, 1.0, -1.0],
            BadLabel::OutOfRange {
                position: 5,
                index: -1,
            },
        ),
        (
            [0.5, 0.0, 0.0],
            BadLabel::OutOfRange {
                position: 3,
                index: 0,
            },
        ),
        ([1.0, 0.0, 2.0], BadLabel::BlankInside { row: 1 }),
        ([1.0, 1.0, 2.0], BadLabel::TooLong { row: 1, needed: 4 }),
    ] {
        let labels = [[1.0, 2.0, 1.0], label].concat();
        let log_p = log_probabilities(2, 3, 3, 1.0);
        let mut workspace = vec![f32::NAN; alignment.gradient_workspace_len()];
        let found = loss(&alignment, &log_p, &labels, &mut [0.0; 2], &mut workspace);
        assert_eq!(found, Err(expected));
        let mut slopes = [0.0; 18];
        let found = gradient(
            &alignment,
            &log_p,
            &labels,
            &[1.0],
            &mut slopes,
            &mut workspace,
        );
        assert_eq!(found, Err(expected));
    }
}

#[test]
fn all_versions_give_the_same_bits() {
    let alignment = Alignment {
        steps: 40,
        classes: 7,
        labels: 15,
    };
    let log_p = log_probabilities(3, 40, 7, 3.0);
    let label: Vec<f32> = (0..45)
        .map(|place| {
            if place % 15 < 9 {
                (1 + place % 6) as f32
            } else {
                0.0
            }
        })
        .collect();
    let run = || {
        let (losses, slopes) = run(&alignment, &log_p, &label, &[0.7]);
        let bits = losses.iter().chain(&slopes).map(|x| x.to_bits());
        bits.collect::<Vec<_>>()
    };
    assert_eq!(with_portable_kernels(run), run());
}

fn run(alignment: &Alignment, log_p: &[f32], labels: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let rows = labels.len() / alignment.labels;
    let (mut losses, mut slopes) = (vec![f32::NAN; rows], vec![f32::NAN; log_p.len()]);
    let mut workspace = vec![f32::NAN; alignment.loss_workspace_len()];
    loss(alignment, log_p, labels, &mut losses, &mut workspace).unwrap();
    let mut workspace = vec![f32::NAN; alignment.gradient_workspace_len()];
    gradient(alignment, log_p, labels, dy, &mut slopes, &mut workspace).unwrap();
    (losses, slopes)
}

fn log_probabilities(rows: usize, steps: usize, classes: usize, scale: f64) -> Vec<f32> {
    let mut stream = RandomKey::of(6, 0).stream(Purpose::Test);
    let mut log_p = Vec::with_capacity(rows * steps * classes);
    for _ in 0..rows * steps {
        let logits: Vec<f64> = (0..classes).map(|_| stream.normal() * scale).collect();
        let sum: f64 = logits.iter().map(|x| x.exp()).sum();
        log_p.extend(logits.iter().map(|x| (x - sum.ln()) as f32));
    }
    log_p
}

/// Loss and gradient in float64, path by path: joins equal neighbours, drops blanks, compares.
fn by_paths(steps: usize, classes: usize, log_p: &[f32], label: &[f32]) -> (f64, Vec<f64>) {
    let label: Vec<usize> = label
        .iter()
        .map(|&class| class as usize)
        .filter(|&class| class != 0)
        .collect();
    let mut total = 0.0;
    let mut met = vec![0.0; steps * classes];
    for number in 0..classes.pow(steps as u32) {
        let path: Vec<usize> = (0..steps)
            .map(|step| number / classes.pow(step as u32) % classes)
            .collect();
        let mut read = path.clone();
        read.dedup();
        read.retain(|&class| class != 0);
        if read != label {
            continue;
        }
        let places = path.iter().enumerate();
        let places: Vec<usize> = places.map(|(step, class)| step * classes + class).collect();
        let likely = places
            .iter()
            .map(|&place| f64::from(log_p[place]))
            .sum::<f64>()
            .exp();
        total += likely;
        for place in places {
            met[place] -= likely;
        }
    }
    met.iter_mut().for_each(|likely| *likely /= total);
    (-total.ln(), met)
}

fn close(found: f32, expected: f64, scale: f64) {
    assert!(
        (f64::from(found) - expected).abs() <= 2e-6 * scale,
        "{found}, the reference has {expected}"
    );
}
