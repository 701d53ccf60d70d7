//! Tests of optimizers within whole jobs: the same bits on any number of servers where norms are exchanged, and what
//! averages, gathered gradients and plateaus do to weights and history.

use serde_json::json;

use super::invariance::{Case, trained_on};
use crate::optim::PlateauRule;

/// A model of some thousand parameters, so that its norms are made of blocks of several owners.
fn case(optimizer: serde_json::Value) -> Case {
    Case {
        rows: 437,
        epochs: 2,
        units: 400,
        optimizer,
        ..Case::usual()
    }
}

#[test]
fn norms_give_the_same_bytes_on_any_number_of_servers_and_threads() {
    for optimizer in [
        json!({"name": "adam", "clipnorm": 0.01}),
        json!({"name": "sgd", "momentum": 0.9, "global_clipnorm": 0.05}),
        json!({"name": "lamb", "learning_rate": 0.01}),
        json!({"name": "lars", "weight_decay": 0.01}),
        // Two exchanges in a step, and none in every second.
        json!({"name": "lamb", "learning_rate": 0.01, "global_clipnorm": 0.05, "weight_decay": 0.1,
            "gradient_accumulation_steps": 2, "use_ema": true, "ema_momentum": 0.8, "ema_overwrite_frequency": 3}),
    ] {
        let one = trained_on(1, case(optimizer.clone()));
        for servers in [2, 3, 8] {
            let many = trained_on(servers, case(optimizer.clone()));
            assert!(many.archive == one.archive, "{optimizer} {servers} servers");
            assert_eq!(many.history, one.history, "{optimizer} {servers} servers");
        }
        for threads in [1, 3] {
            let case = Case {
                threads,
                ..case(optimizer.clone())
            };
            let many = trained_on(1, case);
            assert!(many.archive == one.archive, "{optimizer} {threads} threads");
        }
    }
}

#[test]
fn one_step_of_descent_is_as_long_as_its_clipped_gradient_may_be() {
    // At a rate of 1 the way of one step is the gradient.
    let way = |options: serde_json::Value| {
        let mut optimizer = json!({"name": "sgd", "learning_rate": 1.0});
        let given = options.as_object().unwrap().clone();
        optimizer.as_object_mut().unwrap().extend(given);
        let ends = [json!(0.0), json!(1.0)].map(|rate| {
            optimizer["learning_rate"] = rate;
            let case = Case {
                rows: 100,
                epochs: 1,
                ..case(optimizer.clone())
            };
            trained_on(3, case).parameters
        });
        let squares = ends[0].iter().zip(&ends[1]);
        let squares = squares.map(|(start, end)| f64::from(end - start).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let whole = way(json!({}));
    let clipped = way(json!({"global_clipnorm": 0.5 * whole}));
    assert!((clipped / whole - 0.5).abs() < 1e-4, "{clipped} of {whole}");
    let apart = way(json!({"global_clipnorm": 2.0 * whole}));
    assert!((apart / whole - 1.0).abs() < 1e-6, "{apart} of {whole}");
}

/// One minibatch per epoch, so that the epochs of shorter jobs are the steps of a longer one.
fn few_steps(epochs: u32, options: serde_json::Value) -> Case {
    let mut optimizer = json!({"name": "adam", "learning_rate": 0.05});
    let given = options.as_object().unwrap().clone();
    optimizer.as_object_mut().unwrap().extend(given);
    Case {
        rows: 100,
        epochs,
        ..case(optimizer)
    }
}

#[test]
fn the_weights_kept_are_the_averages_of_those_that_were_trained() {
    let steps: Vec<Vec<f32>> = (1..=5)
        .map(|epochs| trained_on(1, few_steps(epochs, json!({}))).parameters)
        .collect();
    let mut expected: Vec<f64> = steps[0].iter().map(|&value| f64::from(value)).collect();
    for step in &steps[1..] {
        for (average, &value) in expected.iter_mut().zip(step) {
            *average = 0.7 * *average + 0.3 * f64::from(value);
        }
    }
    for servers in [1, 3] {
        let averaged = trained_on(
            servers,
            few_steps(5, json!({"use_ema": true, "ema_momentum": 0.7})),
        );
        for (found, expected) in averaged.parameters.iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6);
        }
    }
}

#[test]
fn averages_are_validated_at_the_end_of_every_epoch() {
    let averaged = json!({"use_ema": true, "ema_momentum": 0.7});
    let plain = trained_on(1, few_steps(5, json!({}))).history;
    let history = trained_on(3, few_steps(5, averaged.clone())).history;
    // Where the weights have just become the averages, there is nothing else that could be validated.
    let mut overwritten = averaged;
    overwritten["ema_overwrite_frequency"] = json!(5);
    let certain = trained_on(1, few_steps(5, overwritten)).history;
    assert_eq!(history[4]["val_loss"], certain[4]["val_loss"]);
    assert_ne!(history[4]["val_loss"], plain[4]["val_loss"]);
    // What is trained is not touched by what is validated.
    for (row, plain) in history.iter().zip(&plain) {
        assert_eq!(row["loss"], plain["loss"]);
    }
}

#[test]
fn a_gradient_that_is_only_gathered_changes_no_weight() {
    let gathered = |epochs| {
        let options = json!({"gradient_accumulation_steps": 3});
        trained_on(2, few_steps(epochs, options)).parameters
    };
    let first = trained_on(1, few_steps(1, json!({"learning_rate": 0.0}))).parameters;
    assert_eq!(gathered(2), first);
    assert_ne!(gathered(3), first);
    assert_eq!(gathered(4), gathered(3));
}

#[test]
fn a_plateau_lowers_the_rate_on_every_server_and_history_tells() {
    let case = |plateau: bool| Case {
        epochs: 9,
        optimizer: json!({"name": "adam", "learning_rate":
            {"name": "step", "learning_rate": 0.2, "step_size": 4, "gamma": 0.5}}),
        reduce_on_plateau: plateau.then(|| PlateauRule {
            monitor: "val_loss".into(),
            factor: 0.25,
            patience: 1,
            // No epoch is so much better than the first.
            min_delta: 100.0,
            cooldown: 1,
            min_learning_rate: 0.001,
            maximize: false,
        }),
        ..case(json!({}))
    };
    let one = trained_on(1, case(true));
    let rates: Vec<f64> = one
        .history
        .iter()
        .map(|row| row["learning_rate"].unwrap())
        .collect();
    // Reduced after epochs 2, 3, 4 and so on, as a cooldown of one epoch ends with that epoch; the schedule halves every
    // four.
    let expected = [
        0.2, 0.2, 0.05, 0.0125, 0.0015625, 0.001, 0.001, 0.001, 0.0005,
    ];
    for (found, expected) in rates.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-7, "{rates:?}");
    }
    for servers in [2, 3] {
        let many = trained_on(servers, case(true));
        assert!(many.archive == one.archive, "{servers} servers");
        assert_eq!(many.history, one.history, "{servers} servers");
    }
    assert!(trained_on(1, case(false)).archive != one.archive);
}
