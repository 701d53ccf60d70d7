//! Updates of single rows of a table, where the gradient is a list of rows (`Embedding` with `sparse`).
//!
//! A row that a step does not meet keeps its numbers and its slots as they are: its moments do not decay, as in PyTorch's
//! `SparseAdam`. Corrections for the first steps count the steps of the job, not those that met the row.

use super::chain::{Chain, Prepared};
use super::transforms::{Moment, Scope};

/// One step's update, prepared once for all its rows.
#[derive(Debug)]
pub struct RowUpdate<'a> {
    chain: &'a Chain,
    prepared: Prepared,
}

impl<'a> RowUpdate<'a> {
    /// Panics when the chain needs norms.
    pub(super) fn new(chain: &'a Chain, moment: &Moment) -> Self {
        assert!(
            chain.scope() == Scope::Elementwise,
            "the rows of a table are updated without norms"
        );
        RowUpdate {
            chain,
            prepared: chain.prepare(moment),
        }
    }

    /// Updates one row from the sum of its gradients; its slots begin at number `at` of each of `slots`.
    ///
    /// Panics when the gradient is shorter than the row or the slots end before it.
    pub fn update(&self, row: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>], at: usize) {
        self.chain
            .update_part(&self.prepared, row, gradient, slots, at);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::optim::{Optimizer, OptimizerSpec};

    const WIDTH: usize = 5;
    const ROWS: usize = 4;

    #[test]
    fn a_row_met_at_every_step_moves_as_dense_parameters_do_and_others_stay() {
        for name in [
            "sgd", "adam", "adamax", "nadam", "adagrad", "adadelta", "rmsprop", "ftrl", "lion",
        ] {
            follow(json!({ "name": name }));
        }
        follow(json!({"name": "sgd", "momentum": 0.9, "nesterov": true}));
        follow(json!({"name": "adam", "amsgrad": true, "clipvalue": 0.3}));
        follow(json!({"name": "rmsprop", "momentum": 0.5, "centered": true}));
    }

    fn follow(description: Value) {
        let spec = OptimizerSpec::from_json(&description).unwrap();
        spec.check_sparse().unwrap();
        let optimizer = Optimizer::build(&spec).unwrap();
        let start = |row: usize| (0..WIDTH).map(move |i| (row * WIDTH + i) as f32 * 0.1 - 0.7);
        let mut table: Vec<f32> = (0..ROWS).flat_map(start).collect();
        let before = table.clone();
        let mut slots = optimizer.first_slots(ROWS * WIDTH);
        let slots_before = slots.clone();
        let met = WIDTH..2 * WIDTH;
        let mut dense = before[met.clone()].to_vec();
        let mut dense_slots = optimizer.first_slots(WIDTH);
        for step in 1..=7 {
            let gradient: Vec<f32> = (0..WIDTH).map(|i| ((step + i) as f32).sin()).collect();
            let rate = optimizer.learning_rate(step as u64, 0);
            optimizer.row_update(step as u64, rate).update(
                &mut table[met.clone()],
                &gradient,
                &mut slots,
                met.start,
            );
            optimizer.update(step as u64, rate, &mut dense, &gradient, &mut dense_slots);
        }
        assert_eq!(table[met.clone()], dense, "{description}");
        for (slot, dense) in slots.iter().zip(&dense_slots) {
            assert_eq!(&slot[met.clone()], dense, "{description}");
        }
        for (now, before) in
            std::iter::once((&table, &before)).chain(slots.iter().zip(&slots_before))
        {
            assert_eq!(now[..met.start], before[..met.start], "{description}");
            assert_eq!(now[met.end..], before[met.end..], "{description}");
        }
    }

    #[test]
    fn what_would_touch_every_row_is_refused_by_name() {
        for (description, message) in [
            (
                json!("adamw"),
                "adamw: option \"weight_decay\" cannot be 0.004; the model has an Embedding with \"sparse\": true, and decay",
            ),
            (
                json!({"name": "sgd", "clipnorm": 1.0}),
                "sgd: option \"clipnorm\" cannot be 1.0; ",
            ),
            (
                json!({"name": "sgd", "global_clipnorm": 1.0}),
                "sgd: option \"global_clipnorm\" cannot be 1.0; ",
            ),
            (
                json!({"name": "adam", "gradient_accumulation_steps": 2}),
                "adam: option \"gradient_accumulation_steps\" cannot be 2; ",
            ),
            (
                json!({"name": "adam", "use_ema": true}),
                "adam: option \"use_ema\" cannot be true; ",
            ),
            (json!("lamb"), "lamb: option \"name\" cannot be \"lamb\"; "),
            (json!("lars"), "lars: option \"name\" cannot be \"lars\"; "),
        ] {
            let spec = OptimizerSpec::from_json(&description).unwrap();
            let error = spec.check_sparse().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let plain = json!({"name": "adamw", "weight_decay": 0.0});
        OptimizerSpec::from_json(&plain)
            .unwrap()
            .check_sparse()
            .unwrap();
    }
}
