//! The losses by name: what each may be told, what its label is, and the few lines of graph that it is.
//!
//! To add one: its function in the file of its family, a row of [`RECIPES`], golden values (`tests/golden/losses/`), its
//! line in `docs/model-spec.md` and its class in `python-client/src/volary/model/losses.py`.

use super::super::settings::Setting;
use super::words::{Given, Recorded};
use super::{alignment, crossentropy, margin, overlap, regression};

/// What the numbers of a label mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Label {
    /// Quantities.
    Numbers,
    /// 0 or 1 for each number of the answer.
    Binary,
    /// A share for each class: 1 for the right one, or a distribution.
    Shares,
    /// The index of a class; one number for each position.
    Index,
    /// Indices of classes from 1 that the steps of the answer are to read as, and zeros behind them: one number for each step.
    Sequence,
}

/// What one value of a loss is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The innermost extent; the values of a row's positions are averaged.
    Innermost,
    /// All numbers of the row.
    Row,
}

/// One loss.
#[derive(Debug)]
pub(in super::super) struct Recipe {
    /// The long Keras name, then other names.
    pub(super) names: &'static [&'static str],
    pub(super) settings: &'static [Setting],
    pub(super) label: Label,
    /// Whether a label column of single values is read as classes.
    pub(super) classes: bool,
    pub(super) over: Over,
    /// Answers (N, K) and labels to losses (N, 1).
    pub(super) record: fn(&mut Given<'_>) -> Recorded,
}

const FROM_LOGITS: Setting = Setting::Flag("from_logits");
const LABEL_SMOOTHING: Setting = Setting::Number("label_smoothing", 0.0, 0.0, 1.0);
const ALPHA: Setting = Setting::Number("alpha", 0.25, 0.0, 1e6);
const GAMMA: Setting = Setting::Number("gamma", 2.0, 0.0, 100.0);

/// A loss of the client's own: it is recorded by its program, never by its recipe.
pub(super) static OWN: Recipe = of_numbers(&["custom"], &[], |given| Ok(given.answer));

/// A loss over numbers, averaged over the innermost extent.
const fn of_numbers(
    names: &'static [&'static str],
    settings: &'static [Setting],
    record: fn(&mut Given<'_>) -> Recorded,
) -> Recipe {
    Recipe {
        names,
        settings,
        label: Label::Numbers,
        classes: false,
        over: Over::Innermost,
        record,
    }
}

/// A loss whose label column may hold classes.
const fn of_classes(
    label: Label,
    names: &'static [&'static str],
    settings: &'static [Setting],
    record: fn(&mut Given<'_>) -> Recorded,
) -> Recipe {
    Recipe {
        label,
        classes: true,
        ..of_numbers(names, settings, record)
    }
}

/// A loss over numbers that stand for classes.
const fn of_marks(
    label: Label,
    names: &'static [&'static str],
    record: fn(&mut Given<'_>) -> Recorded,
) -> Recipe {
    Recipe {
        label,
        ..of_numbers(names, &[], record)
    }
}

/// Every loss, Keras' names, options and defaults.
pub(super) const RECIPES: &[Recipe] = &[
    of_numbers(
        &["mean_squared_error", "mse"],
        &[],
        regression::mean_squared_error,
    ),
    of_numbers(
        &["mean_absolute_error", "mae"],
        &[],
        regression::mean_absolute_error,
    ),
    of_numbers(
        &["mean_absolute_percentage_error", "mape"],
        &[],
        regression::mean_absolute_percentage_error,
    ),
    of_numbers(
        &["mean_squared_logarithmic_error", "msle"],
        &[],
        regression::mean_squared_logarithmic_error,
    ),
    of_numbers(
        &["huber"],
        &[Setting::Number("delta", 1.0, 1e-6, 1e6)],
        regression::huber,
    ),
    of_numbers(&["log_cosh"], &[], regression::log_cosh),
    of_numbers(
        &["quantile", "pinball"],
        &[Setting::Number("quantile", 0.5, 1e-6, 0.999_999)],
        regression::quantile,
    ),
    of_numbers(&["poisson"], &[], regression::poisson),
    of_numbers(
        &["cosine_similarity"],
        &[Setting::InnermostAxis],
        regression::cosine_similarity,
    ),
    of_numbers(&["kl_divergence"], &[], crossentropy::kl_divergence),
    of_classes(
        Label::Binary,
        &["binary_crossentropy"],
        &[FROM_LOGITS, LABEL_SMOOTHING, Setting::InnermostAxis],
        crossentropy::binary_crossentropy,
    ),
    of_classes(
        Label::Binary,
        &["binary_focal_crossentropy"],
        &[
            FROM_LOGITS,
            LABEL_SMOOTHING,
            Setting::Flag("apply_class_balancing"),
            Setting::Number("alpha", 0.25, 0.0, 1.0),
            GAMMA,
            Setting::InnermostAxis,
        ],
        crossentropy::binary_focal_crossentropy,
    ),
    of_classes(
        Label::Shares,
        &["categorical_crossentropy"],
        &[FROM_LOGITS, LABEL_SMOOTHING, Setting::InnermostAxis],
        crossentropy::categorical_crossentropy,
    ),
    of_classes(
        Label::Shares,
        &["categorical_focal_crossentropy"],
        &[
            FROM_LOGITS,
            LABEL_SMOOTHING,
            ALPHA,
            GAMMA,
            Setting::InnermostAxis,
        ],
        crossentropy::categorical_focal_crossentropy,
    ),
    of_classes(
        Label::Index,
        &["sparse_categorical_crossentropy"],
        &[
            FROM_LOGITS,
            Setting::MaybeWhole("ignore_class", -16_777_216.0, 16_777_216.0),
            Setting::InnermostAxis,
        ],
        crossentropy::sparse_categorical_crossentropy,
    ),
    of_classes(
        Label::Index,
        &["categorical_generalized_cross_entropy"],
        &[Setting::Number("q", 0.5, 1e-3, 0.999)],
        crossentropy::categorical_generalized_cross_entropy,
    ),
    of_marks(Label::Binary, &["hinge"], margin::hinge),
    of_marks(Label::Binary, &["squared_hinge"], margin::squared_hinge),
    of_marks(
        Label::Shares,
        &["categorical_hinge"],
        margin::categorical_hinge,
    ),
    Recipe {
        label: Label::Binary,
        over: Over::Row,
        ..of_numbers(
            &["rank_hinge"],
            &[Setting::Number("margin", 1.0, 0.0, 1e6)],
            margin::rank_hinge,
        )
    },
    Recipe {
        over: Over::Row,
        ..of_marks(Label::Binary, &["dice"], overlap::dice)
    },
    Recipe {
        label: Label::Binary,
        over: Over::Row,
        ..of_numbers(
            &["tversky"],
            &[
                Setting::Number("alpha", 0.5, 0.0, 1e6),
                Setting::Number("beta", 0.5, 0.0, 1e6),
            ],
            overlap::tversky,
        )
    },
    Recipe {
        over: Over::Row,
        ..of_marks(Label::Sequence, &["ctc"], alignment::ctc)
    },
];
