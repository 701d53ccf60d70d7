//! JSON answers as a table for people.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use serde_json::Value;

/// One column: its heading, and how its text is made of one answer.
pub type Column = (&'static str, fn(&Value) -> String);

/// Draws the answers under the headings.
pub fn draw(columns: &[Column], answers: &[Value]) -> Result<String, ArrowError> {
    let schema = Schema::new(
        columns
            .iter()
            .map(|(heading, _)| Field::new(*heading, DataType::Utf8, false))
            .collect::<Vec<_>>(),
    );
    let arrays = columns
        .iter()
        .map(|(_, text)| {
            Arc::new(StringArray::from_iter_values(answers.iter().map(text))) as ArrayRef
        })
        .collect();
    let rows = RecordBatch::try_new(Arc::new(schema), arrays)?;
    Ok(arrow::util::pretty::pretty_format_batches(&[rows])?.to_string())
}

/// A field as text, empty when it is not there. Answers have every field, under its proto name (`memory_bytes`).
pub fn text(answer: &Value, field: &str) -> String {
    match &answer[field] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A field as a number, 0 when it is not there. 64-bit integers may also come as text, as proto3 JSON allows.
pub fn number(answer: &Value, field: &str) -> f64 {
    match &answer[field] {
        Value::Number(number) => number.as_f64().unwrap_or(0.0),
        Value::String(text) => text.parse().unwrap_or(0.0),
        _ => 0.0,
    }
}

/// `1.5 GiB`.
pub fn size(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{value} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `auc 0.912, loss 0.301`.
pub fn metrics(answer: &Value) -> String {
    let Some(metrics) = answer["metrics"].as_object() else {
        return String::new();
    };
    metrics
        .iter()
        .map(|(name, value)| format!("{name} {:.4}", value.as_f64().unwrap_or(f64::NAN)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A timestamp without its fractions: `2026-11-22T23:07:22Z`.
pub fn time(answer: &Value, field: &str) -> String {
    let text = text(answer, field);
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_drawn_under_their_headings() {
        let table = draw(
            &[
                ("name", |answer| text(answer, "name")),
                ("bytes", |answer| size(number(answer, "bytes"))),
            ],
            &[
                json!({"name": "census", "bytes": "1536"}),
                json!({"name": "empty"}),
            ],
        )
        .expect("drawn");
        assert!(table.contains("| census | 1.5 KiB |"), "{table}");
        assert!(table.contains("| empty  | 0 B     |"), "{table}");
    }

    #[test]
    fn metrics_and_times_are_shortened() {
        let answer =
            json!({"metrics": {"auc": 0.91234, "loss": 0.3}, "at": "2026-01-02T03:04:05.678Z"});
        assert_eq!(metrics(&answer), "auc 0.9123, loss 0.3000");
        assert_eq!(time(&answer, "at"), "2026-01-02T03:04:05Z");
    }
}
