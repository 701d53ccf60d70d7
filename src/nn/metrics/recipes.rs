//! The metrics by name: what each may be told, what it needs, and the function that it is.
//!
//! To add one: its function in the file of its family, a row of [`RECIPES`], golden values (`tests/golden/metrics/`), its
//! line in `docs/model-spec.md` and its class in `python-client/src/volary/model/metrics.py`.

use super::super::losses::Label;
use super::super::settings::{Setting, Values};
use super::exact_sum::ExactSum;
use super::{accuracy, confusion, curves, ranking, regression};

/// How answers and labels lie: `width` answers to a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Form {
    pub(super) label: Label,
    pub(super) width: usize,
}

/// One position of one row.
#[derive(Debug)]
pub(super) struct Position<'a> {
    pub(super) answer: &'a [f32],
    /// As many numbers, or one class index.
    pub(super) label: &'a [f32],
    pub(super) form: Form,
    pub(super) values: &'a Values,
}

impl Position<'_> {
    /// The place of the largest answer; the first of equals.
    pub(super) fn answered_class(&self) -> usize {
        largest(self.answer)
    }

    /// The label's class, a whole number; not one of the answers' where the label is none.
    pub(super) fn true_class(&self) -> f32 {
        match self.form.label {
            Label::Index => self.label[0],
            _ => largest(self.label) as f32,
        }
    }

    /// Whether the label says that this class is so.
    pub(super) fn says(&self, class: usize) -> bool {
        match self.form.label {
            Label::Index => self.label[0] == class as f32,
            _ => self.label[class] > 0.5,
        }
    }
}

/// What a metric needs to mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// As many numbers in the label as in the answer.
    Numbers,
    /// A loss over classes.
    Classes,
    /// A label of 0 or 1 for each answer.
    Marks,
    /// One answer per class.
    OnePerClass,
}

/// How a metric comes from rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Measure {
    /// The loss, weighted, over the number of rows.
    Loss,
    /// The weighted mean over rows of what a program of the client's own answers.
    Own,
    /// The weighted mean of a number of each position.
    Mean(fn(&Position<'_>) -> f64),
    /// The root of that.
    RootMean(fn(&Position<'_>) -> f64),
    /// From several sums.
    Sums {
        cells: fn(&Form) -> usize,
        add: fn(&Position<'_>, f64, &mut [ExactSum]),
        result: fn(&Values, &[f64]) -> f64,
    },
    /// From several counts of weight units.
    Counts {
        cells: fn(&Form) -> usize,
        add: fn(&Position<'_>, u64, &mut [u64]),
        result: fn(&Values, &[u64]) -> f64,
    },
    /// From the weights of negatives and positives at each score, highest first.
    Scores(fn(&Values, &[(u64, u64)]) -> f64),
    /// The mean gain of the right answer's rank in its group. Options: k, neg_num.
    Ranks(fn(usize) -> f64),
}

/// One metric.
#[derive(Debug)]
pub(super) struct Recipe {
    /// The name in histories, then other names.
    pub(super) names: &'static [&'static str],
    pub(super) settings: &'static [Setting],
    pub(super) needs: Needs,
    /// Whether larger is better.
    pub(super) rises: bool,
    pub(super) measure: Measure,
}

const fn error(names: &'static [&'static str], measure: Measure) -> Recipe {
    Recipe {
        names,
        settings: &[],
        needs: Needs::Numbers,
        rises: false,
        measure,
    }
}

const fn score(
    needs: Needs,
    names: &'static [&'static str],
    settings: &'static [Setting],
    measure: Measure,
) -> Recipe {
    Recipe {
        names,
        settings,
        needs,
        rises: true,
        measure,
    }
}

const K: &[Setting] = &[Setting::Whole("k", 5.0, 1.0, 1e6)];
const THRESHOLD: &[Setting] = &[
    Setting::Number("thresholds", 0.5, 0.0, 1.0),
    Setting::MaybeWhole("class_id", 0.0, 1e6),
];
const GROUP: &[Setting] = &[
    Setting::Whole("k", 10.0, 1.0, 1e4),
    Setting::Whole("neg_num", 100.0, 1.0, 1e6),
];

/// A metric of the client's own.
pub(super) static OWN: Recipe = error(&["custom"], Measure::Own);

/// Every metric, Keras' names, options and defaults.
pub(super) const RECIPES: &[Recipe] = &[
    Recipe {
        needs: Needs::Nothing,
        ..error(&["loss"], Measure::Loss)
    },
    score(
        Needs::Classes,
        &["accuracy", "acc"],
        &[],
        Measure::Mean(accuracy::accuracy),
    ),
    score(
        Needs::Marks,
        &["binary_accuracy"],
        &[Setting::Number("threshold", 0.5, -1e6, 1e6)],
        Measure::Mean(accuracy::binary),
    ),
    score(
        Needs::OnePerClass,
        &["categorical_accuracy"],
        &[],
        Measure::Mean(accuracy::categorical),
    ),
    score(
        Needs::OnePerClass,
        &["sparse_categorical_accuracy"],
        &[],
        Measure::Mean(accuracy::categorical),
    ),
    score(
        Needs::OnePerClass,
        &["top_k_categorical_accuracy"],
        K,
        Measure::Mean(accuracy::top_k),
    ),
    score(
        Needs::OnePerClass,
        &["sparse_top_k_categorical_accuracy"],
        K,
        Measure::Mean(accuracy::top_k),
    ),
    score(
        Needs::Marks,
        &["auc"],
        &[Setting::Word("curve", &["ROC", "PR"])],
        Measure::Scores(curves::area),
    ),
    score(
        Needs::Marks,
        &["average_precision"],
        &[],
        Measure::Scores(curves::average_precision),
    ),
    score(
        Needs::Classes,
        &["precision"],
        THRESHOLD,
        Measure::Counts {
            cells: confusion::three_cells,
            add: confusion::threshold_add,
            result: confusion::precision,
        },
    ),
    score(
        Needs::Classes,
        &["recall"],
        THRESHOLD,
        Measure::Counts {
            cells: confusion::three_cells,
            add: confusion::threshold_add,
            result: confusion::recall,
        },
    ),
    score(
        Needs::Classes,
        &["f1_score", "f1"],
        &[
            Setting::Word("average", &["macro", "micro", "weighted"]),
            Setting::Maybe("threshold", 0.0, 1.0),
        ],
        Measure::Counts {
            cells: confusion::class_cells,
            add: confusion::f1_add,
            result: confusion::f1,
        },
    ),
    score(
        Needs::Classes,
        &["mean_io_u", "mean_iou"],
        &[
            Setting::MaybeWhole("num_classes", 2.0, 1e6),
            Setting::MaybeWhole("ignore_class", -16_777_216.0, 16_777_216.0),
        ],
        Measure::Counts {
            cells: confusion::intersection_cells,
            add: confusion::intersection_add,
            result: confusion::mean_intersection,
        },
    ),
    score(
        Needs::Marks,
        &["hit_ratio"],
        GROUP,
        Measure::Ranks(ranking::hit),
    ),
    score(
        Needs::Marks,
        &["ndcg"],
        GROUP,
        Measure::Ranks(ranking::discounted_gain),
    ),
    error(
        &["mae", "mean_absolute_error"],
        Measure::Mean(regression::absolute),
    ),
    error(
        &["mse", "mean_squared_error"],
        Measure::Mean(regression::squared),
    ),
    error(
        &["rmse", "root_mean_squared_error"],
        Measure::RootMean(regression::squared),
    ),
    error(
        &["mape", "mean_absolute_percentage_error"],
        Measure::Mean(regression::absolute_percentage),
    ),
    error(
        &["msle", "mean_squared_logarithmic_error"],
        Measure::Mean(regression::squared_logarithmic),
    ),
    error(
        &["log_cosh", "logcosh"],
        Measure::Mean(regression::log_cosh),
    ),
    score(
        Needs::Numbers,
        &["cosine_similarity"],
        &[Setting::InnermostAxis],
        Measure::Mean(regression::cosine),
    ),
    score(
        Needs::Numbers,
        &["r2_score", "r2"],
        &[],
        Measure::Sums {
            cells: regression::r2_cells,
            add: regression::r2_add,
            result: regression::r2,
        },
    ),
];

fn largest(values: &[f32]) -> usize {
    // The first of equals, as NumPy's argmax.
    values.iter().enumerate().fold(
        0,
        |best, (index, value)| {
            if *value > values[best] { index } else { best }
        },
    )
}
