//! Optimisers against PyTorch: 20 updates each; the file and its script are in `tests/golden/training/`.

use serde_json::{Value, json};

use crate::tensor::archive::{self, NamedArray};

use super::{Optimizer, OptimizerSpec};

#[test]
fn optimizers_follow_pytorch_for_20_updates() {
    check("sgd", json!({"name": "sgd"}));
    check("momentum", json!({"name": "sgd", "momentum": 0.9}));
    check(
        "nesterov",
        json!({"name": "sgd", "momentum": 0.9, "nesterov": true}),
    );
    check("adam", json!({"name": "adam"}));
    check("adamw", json!({"name": "adamw"}));
}

fn check(name: &str, description: Value) {
    let path = format!(
        "{}/tests/golden/training/operations.safetensors",
        env!("CARGO_MANIFEST_DIR")
    );
    let arrays = archive::from_bytes(&std::fs::read(path).unwrap()).unwrap();
    let of = |name: &str| -> &NamedArray {
        arrays
            .iter()
            .find(|array| array.name == format!("optimizer/{name}"))
            .unwrap()
    };
    let optimizer = Optimizer::build(&OptimizerSpec::from_json(&description).unwrap()).unwrap();
    let mut parameters = of("start").values.clone();
    let mut slots = vec![vec![0.0; parameters.len()]; optimizer.slots()];
    for (step, gradient) in (1..).zip(of("gradients").values.chunks_exact(parameters.len())) {
        optimizer.update(step, 0.01, &mut parameters, gradient, &mut slots);
    }
    for (index, (found, expected)) in parameters
        .iter()
        .zip(&of(&format!("end/{name}")).values)
        .enumerate()
    {
        assert!(
            (found - expected).abs() <= 1e-5 * (1.0 + expected.abs()),
            "{name} at {index}: {found}, PyTorch has {expected}"
        );
    }
}
