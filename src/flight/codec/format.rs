//! The form in which rows leave, as far as a client may choose it: compression, dictionaries, and what every client can read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::ipc::CompressionType;

/// How the buffers of record batches are compressed (Arrow IPC, `BodyCompression`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    #[default]
    None,
    Lz4,
    Zstd,
}

impl Compression {
    /// Reads `none`, `lz4` or `zstd`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let known = [
            ("none", Self::None),
            ("lz4", Self::Lz4),
            ("zstd", Self::Zstd),
        ];
        let found = known
            .iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name));
        found.map(|(_, compression)| *compression)
    }

    /// In IPC's words; none is none.
    pub(super) fn ipc(self) -> Option<CompressionType> {
        match self {
            Self::None => None,
            Self::Lz4 => Some(CompressionType::LZ4_FRAME),
            Self::Zstd => Some(CompressionType::ZSTD),
        }
    }
}

/// Whether dictionaries leave as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dictionaries {
    /// As the values they stand for, which every client can read.
    #[default]
    Values,
    /// A column that is a dictionary stays one; what lies deeper is expanded.
    Keep,
}

impl Dictionaries {
    /// Reads `values` or `keep`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let known = [("values", Self::Values), ("keep", Self::Keep)];
        let found = known
            .iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name));
        found.map(|(_, dictionaries)| *dictionaries)
    }
}

/// The form of a stream's record batches, as far as a client may choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnswerFormat {
    pub compression: Compression,
    pub dictionaries: Dictionaries,
}

impl AnswerFormat {
    /// The schema that a stream of rows of `schema` advertises.
    pub fn advertised(self, schema: &Schema) -> SchemaRef {
        match self.dictionaries {
            Dictionaries::Values => expanded_schema(schema),
            Dictionaries::Keep => Arc::new(Schema::new_with_metadata(
                schema
                    .fields()
                    .iter()
                    .map(|field| match field.data_type() {
                        DataType::Dictionary(key, value) => {
                            let value = Box::new(expanded_type(value));
                            let kept = DataType::Dictionary(key.clone(), value);
                            Arc::new(field.as_ref().clone().with_data_type(kept))
                        }
                        _ => expanded_field(field),
                    })
                    .collect::<Vec<_>>(),
                schema.metadata().clone(),
            )),
        }
    }
}

/// The schema that outside clients see: dictionaries, views and runs replaced by the values they stand for.
pub fn expanded_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new_with_metadata(
        schema
            .fields()
            .iter()
            .map(expanded_field)
            .collect::<Vec<_>>(),
        schema.metadata().clone(),
    ))
}

fn expanded_field(field: &FieldRef) -> FieldRef {
    let expanded = expanded_type(field.data_type());
    if expanded == *field.data_type() {
        return Arc::clone(field);
    }
    Arc::new(
        Field::new(field.name(), expanded, field.is_nullable())
            .with_metadata(field.metadata().clone()),
    )
}

fn expanded_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => expanded_type(values),
        DataType::RunEndEncoded(_, values) => expanded_type(values.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::ListView(field) | DataType::List(field) => DataType::List(expanded_field(field)),
        DataType::LargeListView(field) | DataType::LargeList(field) => {
            DataType::LargeList(expanded_field(field))
        }
        DataType::FixedSizeList(field, size) => {
            DataType::FixedSizeList(expanded_field(field), *size)
        }
        DataType::Map(field, sorted) => DataType::Map(expanded_field(field), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(expanded_field).collect()),
        other => other.clone(),
    }
}
