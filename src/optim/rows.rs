//! Updates of single rows of a table, where the gradient is a list of rows (`Embedding` with `sparse`).
//!
//! A row that a step does not meet keeps its numbers and its slots as they are: its moments do not decay, as in PyTorch's
//! `SparseAdam`. Corrections for the first steps count the steps of the job, not those that met the row.

use super::chain::{Chain, Prepared};
use super::transforms::{Moment, Scope};
use crate::tensor::kernels::gather::ask_for;
use crate::tensor::row_sums::{KnownRows, for_each_sum};

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

    /// Updates the rows that the known lists hold, each from its sum at the root of the tree of so many lanes, in ascending
    /// order; `met` is told each. The lists are of these rows alone, and are used up.
    ///
    /// Panics when a list has another row, or a slot is shorter than the rows.
    pub fn update_rows(
        &self,
        rows: TableRows<'_>,
        lanes: u32,
        known: &mut [KnownRows<'_>],
        scratch: &mut Vec<f32>,
        mut met: impl FnMut(u32),
    ) {
        let TableRows {
            first,
            width,
            values,
            slots,
        } = rows;
        for_each_sum(lanes, 1, width, known, scratch, |row, sum, soon| {
            let place = |row: u32| {
                let start = (row - first) as usize * width;
                start..start + width
            };
            if let Some(soon) = soon {
                ask_for(&values[place(soon)]);
                for slot in &*slots {
                    ask_for(&slot[place(soon)]);
                }
            }
            let at = place(row);
            let values = &mut values[at.clone()];
            self.chain
                .update_part(&self.prepared, values, sum, slots, at.start);
            met(row);
        });
    }
}

/// A stretch of a table's rows and what an optimiser keeps of them.
#[derive(Debug)]
pub struct TableRows<'a> {
    /// The first row.
    pub first: u32,
    /// Numbers of a row.
    pub width: usize,
    pub values: &'a mut [f32],
    /// As long as `values`.
    pub slots: &'a mut [Vec<f32>],
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::TableRows;
    use crate::optim::{Optimizer, OptimizerSpec};
    use crate::tensor::row_sums::{Entry, KnownRows};

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
        let mut slots = optimizer.first_row_slots(ROWS * WIDTH);
        let slots_before = slots.clone();
        let met = WIDTH..2 * WIDTH;
        let mut dense = before[met.clone()].to_vec();
        let mut dense_slots = optimizer.first_slots(WIDTH);
        for step in 1..=7 {
            let gradient: Vec<f32> = (0..WIDTH).map(|i| ((step + i) as f32).sin()).collect();
            let rate = optimizer.learning_rate(step as u64, 0);
            let entries = [Entry { row: 11, at: 0 }];
            let mut known = [KnownRows {
                node: 1,
                entries: &entries,
                values: &gradient,
            }];
            let rows = TableRows {
                first: 10,
                width: WIDTH,
                values: &mut table,
                slots: &mut slots,
            };
            let update = optimizer.row_update(step as u64, rate);
            update.update_rows(rows, 1, &mut known, &mut Vec::new(), |row| {
                assert_eq!(row, 11);
            });
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
