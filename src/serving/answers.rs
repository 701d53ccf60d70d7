//! What a model answers: the columns of one output as they are, those of several under the outputs' names.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::answer::{AnswerForm, NotANumber};
use crate::catalog::ModelOutput;
use crate::nn::{Model, SideBySide};

/// How each output of a model is answered.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    /// With the output's place among the network's numbers.
    forms: Vec<(AnswerForm, std::ops::Range<usize>)>,
    width: usize,
    schema: SchemaRef,
}

impl Answers {
    /// Errors say what does not fit, for the caller to name the model.
    pub(super) fn new(outputs: &[ModelOutput], model: &Model) -> Result<Self, String> {
        if outputs.len() != model.output_count() {
            return Err(format!(
                "it was trained on {} outputs and the network has {}",
                outputs.len(),
                model.output_count()
            ));
        }
        let mut forms = Vec::with_capacity(outputs.len());
        let mut fields: Vec<Field> = Vec::new();
        let mut end = 0;
        for (number, output) in outputs.iter().enumerate() {
            let label = output
                .label
                .arrow_type()
                .map_err(|error| error.to_string())?;
            let width = model.width_of_output(number);
            let form = AnswerForm::new(&label, &output.label.classes, width)?;
            for field in form.schema().fields() {
                let name = match outputs.len() {
                    1 => field.name().clone(),
                    _ => format!("{}_{}", field.name(), output.name),
                };
                if fields.iter().any(|other| *other.name() == name) {
                    return Err(format!("two of its answer columns are named {name:?}"));
                }
                fields.push(field.as_ref().clone().with_name(name));
            }
            end += width;
            forms.push((form, end - width..end));
        }
        Ok(Self {
            forms,
            width: end,
            schema: Arc::new(Schema::new(fields)),
        })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Answer columns for a row-major matrix of (rows, all outputs' numbers side by side).
    pub(super) fn columns(&self, outputs: Vec<f32>) -> Result<Vec<ArrayRef>, NotANumber> {
        if let [(form, _)] = self.forms.as_slice() {
            return form.columns(outputs);
        }
        let outputs = SideBySide {
            values: &outputs,
            width: self.width,
        };
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (form, place) in &self.forms {
            columns.extend(form.columns(outputs.columns(place).into_owned())?);
        }
        Ok(columns)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Float32Array, StringArray};
    use serde_json::json;

    use super::*;
    use crate::catalog::LabelColumn;
    use crate::nn::{FeatureColumn, FeatureKind, ModelSpec};

    #[test]
    fn several_outputs_are_answered_side_by_side_under_their_names() {
        let answers = Answers::new(&outputs(), &model()).unwrap();
        let fields = answers.schema().fields().iter();
        let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
        assert_eq!(
            names,
            ["prediction_level", "prediction_kind", "probabilities_kind"]
        );
        let rows = vec![1.5, 0.2, 0.7, 0.1, -2.0, 0.6, 0.1, 0.3];
        let columns = answers.columns(rows).unwrap();
        assert_eq!(columns[0].as_ref(), &Float32Array::from(vec![1.5, -2.0]));
        assert_eq!(columns[1].as_ref(), &StringArray::from(vec!["b", "a"]));
        let second = columns[2].as_fixed_size_list().value(1);
        assert_eq!(second.as_ref(), &Float32Array::from(vec![0.6, 0.1, 0.3]));
        let one_alone = Answers::new(&outputs()[..1], &model()).unwrap_err();
        assert_eq!(
            one_alone,
            "it was trained on 1 outputs and the network has 2"
        );
    }

    fn outputs() -> Vec<ModelOutput> {
        let output = |name: &str, data_type: &str, classes: &[&str]| ModelOutput {
            name: name.to_owned(),
            label: LabelColumn {
                name: name.to_owned(),
                data_type: data_type.to_owned(),
                classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            },
            loss: "mse".to_owned(),
            loss_weight: 1.0,
            metric_names: Vec::new(),
        };
        vec![
            output("level", "Float64", &[]),
            output("kind", "Utf8", &["a", "b", "c"]),
        ]
    }

    fn model() -> Model {
        let spec = json!({"format_version": 1, "name": "m", "outputs": ["level", "kind"], "layers": [
            {"name": "features", "layer": "Input"},
            {"name": "level", "layer": "Dense", "config": {"units": 1}, "inputs": ["features"]},
            {"name": "kind", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["features"]},
        ]});
        let feature = FeatureColumn {
            name: "x".to_owned(),
            width: 1,
            kind: FeatureKind::Float,
        };
        Model::build(&ModelSpec::from_json(&spec).unwrap(), &[feature]).unwrap()
    }
}
