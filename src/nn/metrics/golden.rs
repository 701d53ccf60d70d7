//! Every metric against Keras and scikit-learn (`tests/golden/metrics/`), and the same bits however its rows are cut.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Loss, Metric, MetricState, RECIPES};
use crate::support::random::{Purpose, RandomKey};
use crate::tensor::archive;

/// One metric over its golden rows.
struct Case {
    description: Value,
    metric: Metric,
    loss: Loss,
    extents: Vec<usize>,
    answers: Vec<f32>,
    labels: Vec<f32>,
    weights: Option<Vec<f32>>,
    value: f64,
}

#[test]
fn metrics_agree_with_keras_and_scikit_learn() {
    for case in cases() {
        let found = case.state(0, case.rows()).result();
        assert!(
            (found - case.value).abs() <= 3e-6 * case.value.abs().max(1.0),
            "{} by {:?}: {found}, the reference has {}",
            case.description,
            case.loss.name(),
            case.value
        );
    }
}

#[test]
fn parts_of_any_cut_merge_to_the_bytes_of_the_whole() {
    let mut stream = RandomKey::of(3, 0).stream(Purpose::Test);
    for case in cases() {
        let whole = case.state(0, case.rows());
        for _ in 0..5 {
            let mut merged: Option<MetricState> = None;
            let mut start = 0;
            while start < case.rows() {
                // Parts of no rows too, as a lane may have none.
                let end = case.rows().min(start + stream.below(150) as usize);
                let part = MetricState::from_bytes(&case.state(start, end).to_bytes()).unwrap();
                match &mut merged {
                    Some(merged) => merged.merge(&part).unwrap(),
                    None => merged = Some(part),
                }
                start = end;
            }
            let merged = merged.unwrap();
            assert_eq!(merged.to_bytes(), whole.to_bytes(), "{}", case.description);
            assert_eq!(merged.result().to_bits(), whole.result().to_bits());
        }
    }
}

#[test]
fn a_loss_of_parts_merges_to_the_bytes_of_the_whole() {
    let cases = cases();
    let case = &cases[3];
    let of = |start: usize, end: usize| {
        let mut state = MetricState::new(Metric::loss(), case.loss.clone(), &case.extents).unwrap();
        case.update(&mut state, start, end);
        state
    };
    let mut merged = of(200, 300);
    merged.merge(&of(0, 17)).unwrap();
    merged.merge(&of(17, 200)).unwrap();
    assert_eq!(merged.to_bytes(), of(0, 300).to_bytes());
}

#[test]
fn every_metric_has_golden_values() {
    let cases = cases();
    for recipe in RECIPES.iter().filter(|recipe| recipe.names != ["loss"]) {
        let has = |case: &Case| case.metric.key() == recipe.names[0];
        assert!(cases.iter().any(has), "{:?}", recipe.names);
        for name in recipe.names {
            let metric = Metric::parse(name).unwrap();
            assert_eq!(Metric::read(&metric.to_json()).unwrap(), metric);
        }
    }
}

#[test]
fn bytes_of_no_state_are_refused_and_never_a_panic() {
    for case in cases() {
        let bytes = case.state(3, 20).to_bytes();
        for length in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
            assert!(MetricState::from_bytes(&bytes[..length]).is_err());
        }
        for at in 0..bytes.len().min(400) {
            let mut changed = bytes.clone();
            changed[at] ^= 0xa5;
            let _ = MetricState::from_bytes(&changed);
        }
    }
}

#[test]
fn ranks_of_groups_that_are_not_whole_are_no_number() {
    let cases = cases();
    let case = cases.iter().find(|case| case.metric.key() == "hit_ratio");
    let case = case.unwrap();
    assert!(case.state(0, 299).result().is_nan(), "a group is cut");
    assert!(case.state(1, 300).result().is_nan(), "a group is cut");
    let mut shuffled =
        MetricState::new(case.metric.clone(), case.loss.clone(), &case.extents).unwrap();
    case.update(&mut shuffled, 0, 300);
    assert!(shuffled.result().is_nan(), "the order is not known");
    let mut torn = case.state(0, 10);
    torn.merge(&case.state(25, 300)).unwrap();
    assert!(torn.result().is_nan(), "rows are missing");
    let two = MetricState::new(case.metric.clone(), case.loss.clone(), &case.extents);
    let mut two = two.unwrap();
    two.begin_at(0);
    two.update(&[0.5; 10], &[1.0; 10], None);
    assert!(two.result().is_nan(), "ten right answers of one group");
}

#[test]
fn metrics_are_named_and_numbered_as_keras_does() {
    let described = serde_json::json!([
        "mae", {"name": "precision"}, {"name": "precision", "thresholds": 0.7}, "loss", "precision",
        "mean_absolute_error", {"name": "precision", "thresholds": 0.9},
    ]);
    let described = described.as_array().unwrap().iter();
    let described: Vec<String> = described
        .map(|each| each.as_str().map_or(each.to_string(), str::to_owned))
        .collect();
    let metrics = Metric::parse_all(&described).unwrap();
    let names: Vec<String> = metrics.iter().map(Metric::name).collect();
    assert_eq!(names, ["mae", "precision", "precision_1", "precision_2"]);
    let again: Vec<String> = metrics.iter().map(Metric::text).collect();
    assert_eq!(Metric::parse_all(&again).unwrap(), metrics);
}

#[test]
fn a_metric_that_does_not_fit_is_refused_with_a_remedy() {
    for (metric, loss, width, words) in [
        ("auc", "mse", 1, "it needs a label of classes"),
        (
            "auc",
            "sparse_categorical_crossentropy",
            3,
            "one sigmoid unit",
        ),
        (
            "mae",
            "sparse_categorical_crossentropy",
            3,
            "use \"accuracy\"",
        ),
        (
            "categorical_accuracy",
            "binary_crossentropy",
            1,
            "\"binary_accuracy\"",
        ),
        ("top_k_categorical_accuracy", "mse", 4, "a label of classes"),
        (
            r#"{"name": "mean_io_u", "num_classes": 5}"#,
            "dice",
            4,
            "answers 2 classes",
        ),
        (
            r#"{"name": "precision", "class_id": 4}"#,
            "categorical_crossentropy",
            4,
            "count from 0",
        ),
        ("accuracy", "ctc", 4, "the label is a sequence"),
        ("mae", "ctc", 4, "the loss is measured in any case"),
    ] {
        let described = serde_json::from_str(metric).unwrap_or_else(|_| Value::from(metric));
        let metric = Metric::read(&described).unwrap();
        let loss = Loss::parse(loss).unwrap();
        let message = MetricState::new(metric, loss, &[width])
            .unwrap_err()
            .to_string();
        assert!(message.contains(words), "{message}");
    }
}

impl Case {
    fn rows(&self) -> usize {
        self.answers.len() / self.extents.iter().product::<usize>()
    }

    fn state(&self, start: usize, end: usize) -> MetricState {
        let mut state =
            MetricState::new(self.metric.clone(), self.loss.clone(), &self.extents).unwrap();
        state.begin_at(start as u64);
        self.update(&mut state, start, end);
        state
    }

    fn update(&self, state: &mut MetricState, start: usize, end: usize) {
        let of = |numbers: &[f32]| {
            let width = numbers.len() / self.rows();
            numbers[start * width..end * width].to_vec()
        };
        let weights = self.weights.as_deref().map(of);
        state.update(&of(&self.answers), &of(&self.labels), weights.as_deref());
    }
}

fn cases() -> Vec<Case> {
    let folder = format!("{}/tests/golden/metrics", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(format!("{folder}/metrics.safetensors")).unwrap();
    let arrays: BTreeMap<String, Vec<f32>> = archive::from_bytes(&bytes)
        .unwrap()
        .into_iter()
        .map(|array| (array.name, array.values))
        .collect();
    let text = std::fs::read(format!("{folder}/metrics.json")).unwrap();
    let cases: Value = serde_json::from_slice(&text).unwrap();
    let cases = cases.as_array().unwrap().iter().enumerate();
    cases
        .map(|(number, case)| {
            let of = |what: &str| arrays.get(&format!("{number}/{what}")).cloned();
            Case {
                description: case["metric"].clone(),
                metric: Metric::read(&case["metric"]).unwrap(),
                loss: Loss::read(&case["loss"]).unwrap(),
                extents: serde_json::from_value(case["extents"].clone()).unwrap(),
                answers: of("answer").unwrap(),
                labels: of("label").unwrap(),
                weights: of("weights"),
                value: case["value"].as_f64().unwrap(),
            }
        })
        .collect()
}
