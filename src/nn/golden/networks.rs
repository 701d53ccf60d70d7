//! Whole networks against Keras (`tests/golden/networks/`): masks from layer to layer, states from one to another, shared arrays.

use std::sync::Arc;

use serde_json::Value;

use super::super::{
    FeatureColumn, FeatureKind, InputData, InputType, LaneBatch, LaneTrainer, Loss, Model,
    ModelSpec,
};
use super::{KEY, all_close, all_close_beside, bytes_of, read_from};

#[test]
fn networks_of_sequences_answer_and_learn_as_in_keras() {
    let arrays = read_from("networks/networks.safetensors");
    let networks: Vec<Value> = serde_json::from_slice(&bytes_of("networks/networks.json")).unwrap();
    assert_eq!(networks.len(), 2);
    for json in &networks {
        let name = json["name"].as_str().unwrap();
        let of = |key: &str| arrays[&format!("{name}/{key}")].as_slice();
        let target = of("target");
        let rows = target.len();
        let spec = ModelSpec::from_json(json).unwrap();
        let features: Vec<FeatureColumn> = spec
            .layers
            .iter()
            .filter(|layer| layer.layer == "Input")
            .map(|layer| {
                let column = layer.config["columns"][0].as_str().unwrap();
                FeatureColumn {
                    name: column.to_string(),
                    width: of(column).len() / rows,
                    kind: match layer.config.contains_key("dtype") {
                        true => FeatureKind::Integer,
                        false => FeatureKind::Float,
                    },
                }
            })
            .collect();
        let model = Arc::new(Model::build(&spec, &features).unwrap());
        let mut parameters = vec![f32::NAN; model.parameter_len()];
        for info in model.parameters() {
            parameters[info.offset..info.offset + info.len()].copy_from_slice(of(&info.name));
        }
        let integers: Vec<Vec<i32>> = model
            .inputs()
            .iter()
            .map(|input| of(&input.name).iter().map(|&value| value as i32).collect())
            .collect();
        let inputs = model
            .inputs()
            .iter()
            .zip(&integers)
            .map(|(input, integers)| match input.dtype {
                InputType::Int32 => InputData::Int32(integers),
                InputType::Float32 => InputData::Float32(of(&input.name)),
            })
            .collect();
        let batch = LaneBatch {
            rows,
            inputs,
            target,
            weights: None,
        };
        let mut gradient = vec![f32::NAN; parameters.len()];
        let mut trainer =
            LaneTrainer::new(Arc::clone(&model), Loss::parse("mse").unwrap()).unwrap();
        let step = trainer
            .step(
                &parameters,
                &[],
                &batch,
                &KEY,
                rows as f32,
                &mut gradient,
                &mut [],
            )
            .unwrap();
        all_close(&format!("{name}: answer"), step.predictions, of("answer"));
        let loss = [step.loss_sum as f32 / rows as f32];
        all_close(&format!("{name}: loss"), &loss, of("loss"));
        let largest = gradient
            .iter()
            .fold(0f32, |largest, slope| largest.max(slope.abs()));
        for info in model.parameters() {
            let found = &gradient[info.offset..info.offset + info.len()];
            let what = format!("{name}: gradient of {}", info.name);
            let expected = of(&format!("{}/gradient", info.name));
            all_close_beside(&what, found, expected, largest / 10.0);
        }
    }
}
