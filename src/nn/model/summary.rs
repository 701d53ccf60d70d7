//! A model as a table for people.

use std::fmt::Write;

use super::super::spec::shortened;
use super::{Model, Source};

impl Model {
    /// A table of layers, shapes and parameter counts, as Keras prints it.
    pub fn summary(&self) -> String {
        let mut rows = vec![[
            "Layer (type)".to_string(),
            "Output shape".to_string(),
            "Parameters".to_string(),
            "Connected to".to_string(),
        ]];
        for layer in &self.layers {
            let extents: Vec<String> = layer.outputs[0]
                .extents
                .iter()
                .map(usize::to_string)
                .collect();
            let sources = match &layer.source {
                Source::Features(input) => {
                    shortened(self.inputs[*input].columns.iter().map(String::as_str))
                }
                Source::Layers(sources) => shortened(
                    sources
                        .iter()
                        .map(|source| self.layers[source.layer].name.as_str()),
                ),
            };
            rows.push([
                format!("{} ({})", layer.name, layer.kind),
                format!("(rows, {})", extents.join(", ")),
                layer.held.to_string(),
                sources,
            ]);
        }
        let widths: Vec<usize> = (0..4)
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = format!("Model \"{}\"\n", self.name);
        for (position, [layer, shape, held, sources]) in rows.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{layer:<0$}  {shape:<1$}  {held:>2$}  {sources}",
                widths[0], widths[1], widths[2]
            );
            if position == 0 {
                let _ = writeln!(text, "{}", "-".repeat(widths.iter().sum::<usize>() + 6));
            }
        }
        let _ = writeln!(
            text,
            "Parameters: {} trainable ({} bytes), {} that follow the data or are frozen",
            self.parameters.len,
            self.parameters.len * size_of::<f32>(),
            self.statistics.len
        );
        text
    }
}
