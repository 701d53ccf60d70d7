//! Tests of checkpoints: a job that goes on from one comes to the same bytes as a job that was never interrupted, whatever
//! the servers before and after.

use std::sync::Arc;

use serde_json::{Value, json};

use super::checkpoint::CheckpointRule;
use super::invariance::{Case, KeptInMemory, trained_on};
use crate::optim::PlateauRule;

const EPOCHS: u32 = 5;

#[test]
fn a_job_goes_on_to_the_same_bytes_on_any_number_of_servers_before_and_after() {
    for (before, after) in [(1, 1), (1, 3), (3, 1), (2, 8)] {
        check(before, after, 2, usual());
    }
}

/// Each keeps another state: moments, gathered gradients, averages of weights, norms over the whole model.
#[test]
fn every_kind_of_optimizer_goes_on_as_if_nothing_had_been() {
    let optimizers: [Value; 6] = [
        json!({"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": true}),
        json!({"name": "adam", "learning_rate": 0.01, "amsgrad": true, "use_ema": true}),
        json!({"name": "adam", "learning_rate": 0.01, "gradient_accumulation_steps": 4}),
        json!({"name": "lamb", "learning_rate": 0.01, "global_clipnorm": 0.5}),
        json!({"name": "nadam", "learning_rate": 0.01}),
        json!({"name": "adadelta", "learning_rate": 1.0}),
    ];
    for optimizer in optimizers {
        let case = Case {
            optimizer,
            ..usual()
        };
        check(2, 3, 3, case);
    }
}

#[test]
fn sparse_tables_and_windows_go_on_as_if_nothing_had_been() {
    let sparse = Case {
        sparse: true,
        ..usual()
    };
    check(3, 2, 2, sparse);
    let windows = Case {
        cached: false,
        two_outputs: true,
        ..usual()
    };
    check(2, 1, 1, windows);
}

/// What early stopping and a plateau have seen is part of the state, and so are the best weights.
#[test]
fn what_watches_the_epochs_remembers_those_before() {
    let case = Case {
        epochs: 30,
        optimizer: json!({"name": "adam", "learning_rate": 0.3}),
        patience: Some(3),
        reduce_on_plateau: Some(PlateauRule {
            monitor: "val_loss".into(),
            factor: 0.5,
            patience: 1,
            min_delta: 0.0,
            cooldown: 1,
            min_learning_rate: 1e-3,
            maximize: false,
        }),
        ..Case::usual()
    };
    let whole = trained_on(1, case.clone());
    let over = whole.history.len() as u32;
    assert!((4..30).contains(&over), "{over} epochs");
    // The last of these is the epoch before the end, when patience is almost used up.
    for at in [1, over / 2, over - 1] {
        check(2, 1, at, case.clone());
    }
}

#[test]
fn checkpoints_are_taken_when_due_and_at_the_end() {
    let kept = Arc::new(KeptInMemory::default());
    let case = Case {
        kept: Some((CheckpointRule { every: 2, keep: 9 }, Arc::clone(&kept))),
        ..usual()
    };
    let taken = trained_on(2, case);
    assert_eq!(kept.epochs(), [2, 4, 5]);
    // Taking them changes nothing.
    assert!(taken.archive == trained_on(1, usual()).archive);
}

fn usual() -> Case {
    Case {
        epochs: EPOCHS,
        ..Case::usual()
    }
}

/// A whole run on one server, and one that is broken off after `at` epochs and goes on elsewhere.
fn check(before: u32, after: u32, at: u32, case: Case) {
    let whole = trained_on(1, case.clone());
    let kept = Arc::new(KeptInMemory::default());
    let every = CheckpointRule { every: 1, keep: 9 };
    let first = Case {
        epochs: at,
        kept: Some((every, Arc::clone(&kept))),
        ..case.clone()
    };
    trained_on(before, first);
    let rest = Case {
        resume: Some((at, kept)),
        ..case.clone()
    };
    let rest = trained_on(after, rest);
    let told = format!("{before} servers, {after} from epoch {at} on, {case:?}");
    assert_eq!(rest.history, whole.history[at as usize..], "{told}");
    assert!(rest.archive == whole.archive, "{told}");
}
