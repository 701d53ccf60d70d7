//! Flight messages in, record batches out; every message is checked before arrow-ipc touches it.
//!
//! arrow-ipc 59 panics on schemas that are well-formed flatbuffers but not well-formed schemas, and allocates what a
//! compressed buffer claims to hold. So: flatbuffers are verified (depth up to 64), fields counted, buffer ranges and
//! claims summed against a budget, and what remains runs under `catch_unwind`.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc;
use arrow::ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_flight::{FlightData, FlightDescriptor};
use bytes::Bytes;
use tonic::{Code, Status, Streaming};

use crate::flight::error::FlightError;
use crate::telemetry::metrics;

/// Most fields of a schema, nested ones included. A wide table has thousands; a field costs a few hundred bytes.
const FIELDS_MAX: usize = 20_000;

/// Deepest nesting of a schema. flatbuffers' own verifier stops at 64 tables, and so does every reader we know.
const DEPTH_MAX: usize = 64;

/// Rows that a message may claim without any bytes to show for them (columns of type Null, or no columns).
const FREE_ROWS_MAX: u64 = 1 << 24;

/// Buffers of a body start at multiples of this, counted from the body's own start (Arrow IPC).
const BUFFER_ALIGNMENT: usize = 8;

/// Bodies above this are decoded on the blocking pool: validation of text reads every byte.
const INLINE_BYTES_MAX: usize = 1 << 20;

/// Bounds of what one message may hold.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    /// Largest message as it travels; enforced by gRPC, named in its error.
    pub message_bytes_max: usize,
    /// Largest batch once decompressed and aligned.
    pub batch_bytes_max: u64,
    /// The option that raises the first bound; the second follows it.
    pub option: &'static str,
}

/// What came in.
#[derive(Debug)]
pub enum InboundItem {
    Schema(SchemaRef),
    Batch {
        batch: RecordBatch,
        app_metadata: Bytes,
    },
    /// A message without rows.
    Metadata(Bytes),
}

/// A stream of Flight messages from outside.
#[derive(Debug)]
pub struct Inbound {
    stream: Streaming<FlightData>,
    first: Option<FlightData>,
    state: DecodeState,
}

impl Inbound {
    /// Waits for the first message, which carries the descriptor.
    pub async fn open(
        mut stream: Streaming<FlightData>,
        limits: DecodeLimits,
    ) -> Result<(FlightDescriptor, Self), Status> {
        let mut first = stream
            .message()
            .await
            .map_err(|status| limits.rename(status))?
            .ok_or(FlightError::NoMessage)?;
        let descriptor = first
            .flight_descriptor
            .take()
            .ok_or(FlightError::NoDescriptor)?;
        Ok((
            descriptor,
            Self {
                stream,
                first: Some(first),
                state: DecodeState::new(limits),
            },
        ))
    }

    /// The next item; `None` when the client has finished its side.
    ///
    /// A client that resets its stream can look finished here: whoever commits on `None` must first yield once, so
    /// that the transport can drop the call (see `verbs/do_put.rs`).
    pub async fn next(&mut self) -> Result<Option<InboundItem>, Status> {
        loop {
            let message = match self.first.take() {
                Some(first) => first,
                None => match self.message().await? {
                    Some(message) => message,
                    None => return Ok(None),
                },
            };
            if let Some(item) = self.decode(message).await? {
                return Ok(Some(item));
            }
        }
    }

    /// The next message as it is, for streams that carry no Arrow.
    pub async fn message(&mut self) -> Result<Option<FlightData>, Status> {
        self.stream
            .message()
            .await
            .map_err(|status| self.state.limits.rename(status))
    }

    async fn decode(&mut self, message: FlightData) -> Result<Option<InboundItem>, Status> {
        if message.data_body.len() <= INLINE_BYTES_MAX {
            return Ok(self.state.decode(message)?);
        }
        let limits = self.state.limits;
        let mut state = std::mem::replace(&mut self.state, DecodeState::new(limits));
        let (state, item) = tokio::task::spawn_blocking(move || {
            let item = state.decode(message);
            (state, item)
        })
        .await
        .map_err(|error| FlightError::Internal {
            doing: "decoding a batch",
            reason: error.to_string(),
        })?;
        self.state = state;
        Ok(item?)
    }
}

impl DecodeLimits {
    /// tonic's own words for a message over the limit name neither the option nor the way out.
    fn rename(&self, status: Status) -> Status {
        if status.code() == Code::OutOfRange && status.message().contains("too large") {
            return FlightError::MessageTooLarge {
                limit: self.message_bytes_max,
                option: self.option,
            }
            .into();
        }
        status
    }
}

/// The schema of an encapsulated IPC message, which is what `schema.serialize()` of pyarrow makes.
pub fn schema_of_message(bytes: &Bytes, limits: DecodeLimits) -> Result<SchemaRef, FlightError> {
    const CONTINUATION: [u8; 4] = [0xff; 4];
    let bad = || {
        bad_message(
            "a schema is an encapsulated IPC message, as `schema.serialize()` of pyarrow makes it",
        )
    };
    let framed = match bytes.starts_with(&CONTINUATION) {
        true => bytes.slice(CONTINUATION.len()..),
        false => bytes.clone(),
    };
    let (length, rest) = framed.split_first_chunk::<4>().ok_or_else(bad)?;
    let length = u32::from_le_bytes(*length) as usize;
    let header = rest.get(..length).ok_or_else(bad)?;
    let message = FlightData {
        data_header: Bytes::copy_from_slice(header),
        ..FlightData::default()
    };
    match DecodeState::new(limits).decode(message)? {
        Some(InboundItem::Schema(schema)) => Ok(schema),
        _ => Err(bad()),
    }
}

/// What earlier messages of the stream established.
#[derive(Debug)]
struct DecodeState {
    limits: DecodeLimits,
    schema: Option<SchemaRef>,
    schema_header: Bytes,
    /// Field nodes that a batch of the schema has.
    nodes: usize,
    has_union: bool,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl DecodeState {
    fn new(limits: DecodeLimits) -> Self {
        Self {
            limits,
            schema: None,
            schema_header: Bytes::new(),
            nodes: 0,
            has_union: false,
            dictionaries: HashMap::new(),
        }
    }

    fn decode(&mut self, data: FlightData) -> Result<Option<InboundItem>, FlightError> {
        if data.data_header.is_empty() {
            // Also what a client sends to open a stream with a descriptor alone.
            return Ok(
                (!data.app_metadata.is_empty()).then_some(InboundItem::Metadata(data.app_metadata))
            );
        }
        let header = data.data_header.clone();
        let message = ipc::root_as_message(&header).map_err(bad_message)?;
        match message.header_type() {
            ipc::MessageHeader::Schema => self.take_schema(&header, message).map(Some),
            ipc::MessageHeader::DictionaryBatch => {
                self.take_dictionary(message, data.data_body)?;
                Ok(None)
            }
            ipc::MessageHeader::RecordBatch => {
                let batch = self.take_batch(message, data.data_body)?;
                Ok(Some(InboundItem::Batch {
                    batch,
                    app_metadata: data.app_metadata,
                }))
            }
            ipc::MessageHeader::NONE => Ok(Some(InboundItem::Metadata(data.app_metadata))),
            other => Err(bad_message(format!(
                "a {} message has no place in a stream of record batches",
                other.variant_name().unwrap_or("nameless")
            ))),
        }
    }

    fn take_schema(
        &mut self,
        header: &Bytes,
        message: ipc::Message<'_>,
    ) -> Result<InboundItem, FlightError> {
        if self.schema.is_some() {
            let reason = if *header == self.schema_header {
                "the schema was sent twice"
            } else {
                "a second schema was sent"
            };
            return Err(FlightError::SchemaChanged {
                reason: reason.to_owned(),
            });
        }
        let schema = message
            .header_as_schema()
            .ok_or_else(|| bad_message("the schema message holds no schema"))?;
        if schema.endianness() != ipc::Endianness::Little {
            return Err(bad_message("big-endian data is not read here"));
        }
        let mut count = 0;
        for field in schema.fields().into_iter().flatten() {
            check_field(&field, 1, &mut count)?;
        }
        let schema = guarded(|| Ok(ipc::convert::fb_to_schema(schema)))?;
        self.nodes = schema
            .fields()
            .iter()
            .map(|field| count_nodes(field.data_type()))
            .sum();
        self.has_union = schema
            .fields()
            .iter()
            .any(|field| has_union(field.data_type()));
        self.schema_header = header.clone();
        let schema = Arc::new(schema);
        self.schema = Some(Arc::clone(&schema));
        Ok(InboundItem::Schema(schema))
    }

    fn take_dictionary(
        &mut self,
        message: ipc::Message<'_>,
        body: Bytes,
    ) -> Result<(), FlightError> {
        let schema = self.schema.as_ref().ok_or(FlightError::NoSchema)?;
        let dictionary = message
            .header_as_dictionary_batch()
            .ok_or_else(|| bad_message("the dictionary message holds no dictionary"))?;
        let values = dictionary
            .data()
            .ok_or_else(|| bad_message("the dictionary message holds no values"))?;
        check_batch(&values, &body, &self.limits)?;
        if dictionary.isDelta()
            && let Some(old) = self.dictionaries.get(&dictionary.id())
        {
            // A delta is joined to what there is; otherwise a stream of deltas would grow without bound.
            let claimed = old.get_buffer_memory_size() as u64 + body.len() as u64;
            if claimed > self.limits.batch_bytes_max {
                return Err(self.limits.too_large(claimed));
            }
        }
        let dictionaries = &mut self.dictionaries;
        guarded(|| {
            read_dictionary(
                &Buffer::from(body),
                dictionary,
                schema,
                dictionaries,
                &message.version(),
            )
        })
    }

    fn take_batch(
        &self,
        message: ipc::Message<'_>,
        body: Bytes,
    ) -> Result<RecordBatch, FlightError> {
        let bytes = body.len() as u64;
        let schema = self.schema.as_ref().ok_or(FlightError::NoSchema)?;
        let batch = message
            .header_as_record_batch()
            .ok_or_else(|| bad_message("the batch message holds no batch"))?;
        check_batch(&batch, &body, &self.limits)?;
        let nodes = batch.nodes().map_or(0, |nodes| nodes.len());
        if nodes != self.nodes {
            return Err(FlightError::SchemaChanged {
                reason: format!(
                    "a batch has {nodes} arrays, its schema calls for {}",
                    self.nodes
                ),
            });
        }
        let body = if self.has_union {
            aligned(body)
        } else {
            Buffer::from(body)
        };
        let batch = guarded(|| {
            RecordBatchDecoder::try_new(
                &body,
                batch,
                Arc::clone(schema),
                &self.dictionaries,
                &message.version(),
            )?
            .read_record_batch()
        })?;
        metrics::batch_received(batch.num_rows() as u64, bytes);
        Ok(batch)
    }
}

impl DecodeLimits {
    fn too_large(&self, claimed: u64) -> FlightError {
        FlightError::BatchTooLarge {
            claimed,
            limit: self.batch_bytes_max,
            option: self.option,
        }
    }
}

/// The same bytes where numbers may be read in place. arrow-ipc moves what lies badly in every array but a union's codes
/// and offsets, and gRPC puts a body anywhere.
fn aligned(body: Bytes) -> Buffer {
    if body.as_ptr().addr().is_multiple_of(BUFFER_ALIGNMENT) {
        Buffer::from(body)
    } else {
        Buffer::from_slice_ref(&body)
    }
}

fn has_union(data_type: &DataType) -> bool {
    match data_type {
        DataType::Union(..) => true,
        DataType::Dictionary(_, values) => has_union(values),
        DataType::RunEndEncoded(_, field)
        | DataType::List(field)
        | DataType::ListView(field)
        | DataType::LargeList(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => has_union(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_union(field.data_type())),
        _ => false,
    }
}

/// Runs a decoder that may panic on hostile input. What it was building is dropped with the stream.
fn guarded<T>(
    decode: impl FnOnce() -> Result<T, arrow::error::ArrowError>,
) -> Result<T, FlightError> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(bad_message),
        Err(panic) => {
            let reason = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("it is malformed");
            Err(bad_message(reason))
        }
    }
}

fn bad_message(reason: impl std::fmt::Display) -> FlightError {
    FlightError::BadMessage {
        reason: reason.to_string(),
    }
}

/// Bounds depth and number, and the sizes that arrow-ipc would take as they are.
fn check_field(field: &ipc::Field<'_>, depth: usize, count: &mut usize) -> Result<(), FlightError> {
    *count += 1;
    if *count > FIELDS_MAX {
        return Err(bad_message(format!(
            "the schema has more than {FIELDS_MAX} fields"
        )));
    }
    if depth > DEPTH_MAX {
        return Err(bad_message(format!(
            "the schema nests deeper than {DEPTH_MAX}"
        )));
    }
    let size = field
        .type_as_fixed_size_binary()
        .map(|kind| kind.byteWidth())
        .or_else(|| field.type_as_fixed_size_list().map(|kind| kind.listSize()));
    if let Some(size) = size
        && size < 0
    {
        return Err(bad_message(format!(
            "field {:?} has the size {size}",
            field.name().unwrap_or_default()
        )));
    }
    let children = field.children();
    let wanted = match field.type_type() {
        ipc::Type::List
        | ipc::Type::LargeList
        | ipc::Type::ListView
        | ipc::Type::LargeListView
        | ipc::Type::FixedSizeList
        | ipc::Type::Map => Some(1),
        ipc::Type::RunEndEncoded => Some(2),
        _ => None,
    };
    let found = children.map_or(0, |children| children.len());
    if let Some(wanted) = wanted
        && found != wanted
    {
        return Err(bad_message(format!(
            "field {:?} has {found} children instead of {wanted}",
            field.name().unwrap_or_default()
        )));
    }
    for child in children.into_iter().flatten() {
        check_field(&child, depth + 1, count)?;
    }
    Ok(())
}

/// Field nodes that arrow-ipc reads for a column of this type.
fn count_nodes(data_type: &arrow::datatypes::DataType) -> usize {
    use arrow::datatypes::DataType as T;
    1 + match data_type {
        T::List(field)
        | T::LargeList(field)
        | T::ListView(field)
        | T::LargeListView(field)
        | T::FixedSizeList(field, _)
        | T::Map(field, _) => count_nodes(field.data_type()),
        T::Struct(fields) => fields
            .iter()
            .map(|field| count_nodes(field.data_type()))
            .sum(),
        T::Union(fields, _) => fields
            .iter()
            .map(|(_, field)| count_nodes(field.data_type()))
            .sum(),
        T::RunEndEncoded(ends, values) => {
            count_nodes(ends.data_type()) + count_nodes(values.data_type())
        }
        _ => 0,
    }
}

/// Ranges inside the body, claims inside the budget, rows in proportion to bytes.
fn check_batch(
    batch: &ipc::RecordBatch<'_>,
    body: &Bytes,
    limits: &DecodeLimits,
) -> Result<(), FlightError> {
    let compressed = batch.compression().is_some();
    let mut claimed = 0_u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let range = usize::try_from(buffer.offset())
            .ok()
            .zip(usize::try_from(buffer.length()).ok())
            .and_then(|(offset, length)| body.get(offset..offset.checked_add(length)?))
            .ok_or_else(|| bad_message("a buffer lies outside the message's body"))?;
        let decoded = match range.first_chunk::<8>() {
            Some(prefix) if compressed => match i64::from_le_bytes(*prefix) {
                // -1: the rest is not compressed.
                -1 => range.len() as u64,
                length => u64::try_from(length)
                    .map_err(|_| bad_message("a compressed buffer claims a negative length"))?,
            },
            None if compressed && !range.is_empty() => {
                return Err(bad_message(
                    "a compressed buffer is shorter than its prefix",
                ));
            }
            _ => range.len() as u64,
        };
        claimed = claimed.saturating_add(decoded);
    }
    if claimed > limits.batch_bytes_max {
        return Err(limits.too_large(claimed));
    }
    // A bit per row is the least that a column of values takes.
    let rows_max = FREE_ROWS_MAX.max(claimed.saturating_mul(8));
    let in_bounds = |length: i64| u64::try_from(length).is_ok_and(|length| length <= rows_max);
    if !in_bounds(batch.length()) {
        return Err(bad_message(format!(
            "a batch claims {} rows in {claimed} bytes",
            batch.length()
        )));
    }
    for node in batch.nodes().into_iter().flatten() {
        if !in_bounds(node.length()) || node.null_count() < 0 || node.null_count() > node.length() {
            return Err(bad_message(format!(
                "an array claims {} values, {} of them null, in {claimed} bytes",
                node.length(),
                node.null_count()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::codec::encode::{BatchEncoder, schema_message};
    use crate::flight::codec::expanded_schema;
    use arrow::array::{
        Array, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float64Array,
        Int64Array, LargeListArray, LargeStringArray, ListArray, NullArray, StringArray,
        StringViewArray, StructArray, TimestampMicrosecondArray, UnionArray,
    };
    use arrow::datatypes::{Field, Int32Type, Int64Type, Schema, UnionFields};
    use arrow::ipc::writer::{
        DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions,
    };

    const LIMITS: DecodeLimits = DecodeLimits {
        message_bytes_max: 1 << 20,
        batch_bytes_max: 8 << 20,
        option: "--max-message-size",
    };

    /// What an outside client's writer makes of a batch: dictionaries and views stay what they are.
    fn messages(batch: &RecordBatch, options: &IpcWriteOptions) -> Vec<FlightData> {
        let generator = IpcDataGenerator::default();
        let mut tracker = DictionaryTracker::new(false);
        let schema = generator.schema_to_bytes_with_dictionary_tracker(
            batch.schema_ref(),
            &mut tracker,
            options,
        );
        let (dictionaries, rows) = generator
            .encode(
                batch,
                &mut tracker,
                options,
                &mut IpcWriteContext::default(),
            )
            .unwrap();
        [schema]
            .into_iter()
            .chain(dictionaries)
            .chain([rows])
            .map(|encoded| FlightData {
                data_header: encoded.ipc_message.into(),
                data_body: encoded.arrow_data.into(),
                ..FlightData::default()
            })
            .collect()
    }

    fn decode_all(messages: Vec<FlightData>) -> Result<Vec<RecordBatch>, FlightError> {
        let mut state = DecodeState::new(LIMITS);
        let mut batches = Vec::new();
        for message in messages {
            if let Some(InboundItem::Batch { batch, .. }) = state.decode(message)? {
                batches.push(batch);
            }
        }
        Ok(batches)
    }

    #[test]
    fn a_union_is_read_wherever_its_body_lies() {
        let fields = UnionFields::from_fields([
            Field::new("number", DataType::Int64, false),
            Field::new("text", DataType::Utf8, false),
        ]);
        let union = UnionArray::try_new(
            fields,
            vec![0, 1, 0].into(),
            Some(vec![0, 0, 1].into()),
            vec![
                Arc::new(Int64Array::from(vec![7, 8])),
                Arc::new(StringArray::from(vec!["a"])),
            ],
        );
        let union: ArrayRef = Arc::new(union.unwrap());
        let batch = RecordBatch::try_from_iter([("either", union)]).unwrap();
        for offset in 0..BUFFER_ALIGNMENT {
            let moved = messages(&batch, &IpcWriteOptions::default())
                .into_iter()
                .map(|message| {
                    let padded = [&vec![0; offset][..], &message.data_body[..]].concat();
                    FlightData {
                        data_body: Bytes::from(padded).slice(offset..),
                        ..message
                    }
                });
            assert_eq!(
                decode_all(moved.collect()).unwrap(),
                std::slice::from_ref(&batch)
            );
        }
    }

    fn many_types() -> RecordBatch {
        let dictionary: DictionaryArray<Int32Type> = [Some("a"), None, Some("b"), Some("a")]
            .into_iter()
            .collect();
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
            Some(vec![Some(2)]),
        ]);
        let large = LargeListArray::from_iter_primitive::<Int64Type, _, _>([
            None,
            Some(vec![Some(1), None]),
            Some(vec![]),
            Some(vec![Some(2)]),
        ]);
        let inner: ArrayRef = Arc::new(StringArray::from(vec![
            Some("x"),
            None,
            Some(""),
            Some("z"),
        ]));
        let structs = StructArray::from(vec![(
            Arc::new(Field::new("inner", DataType::Utf8, true)),
            inner,
        )]);
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            (
                "bool",
                Arc::new(BooleanArray::from(vec![
                    Some(true),
                    None,
                    Some(false),
                    None,
                ])),
                true,
            ),
            (
                "int",
                Arc::new(Int64Array::from(vec![1, 2, 3, i64::MIN])),
                false,
            ),
            (
                "float",
                Arc::new(Float64Array::from(vec![
                    Some(0.5),
                    None,
                    Some(f64::NAN),
                    Some(-0.0),
                ])),
                true,
            ),
            (
                "text",
                Arc::new(StringArray::from(vec![
                    Some("é"),
                    None,
                    Some(""),
                    Some("b"),
                ])),
                true,
            ),
            (
                "large_text",
                Arc::new(LargeStringArray::from(vec!["a", "b", "c", "d"])),
                false,
            ),
            (
                "view",
                Arc::new(StringViewArray::from(vec![
                    Some("a text of more than twelve bytes"),
                    None,
                    Some("s"),
                    Some(""),
                ])),
                true,
            ),
            (
                "binary",
                Arc::new(BinaryArray::from(vec![&b"\0"[..], b"", b"\xff", b"x"])),
                false,
            ),
            (
                "decimal",
                Arc::new(
                    Decimal128Array::from(vec![1, 2, 3, 4])
                        .with_precision_and_scale(10, 2)
                        .unwrap(),
                ),
                false,
            ),
            (
                "time",
                Arc::new(TimestampMicrosecondArray::from(vec![0, 1, 2, 3]).with_timezone("UTC")),
                false,
            ),
            ("dictionary", Arc::new(dictionary), true),
            ("list", Arc::new(list), true),
            ("large_list", Arc::new(large), true),
            ("struct", Arc::new(structs), false),
            ("nothing", Arc::new(NullArray::new(4)), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    #[test]
    fn every_type_comes_in_as_it_was() {
        let batch = many_types();
        let lz4 = IpcWriteOptions::default()
            .try_with_compression(Some(ipc::CompressionType::LZ4_FRAME))
            .unwrap();
        let zstd = IpcWriteOptions::default()
            .try_with_compression(Some(ipc::CompressionType::ZSTD))
            .unwrap();
        for options in [IpcWriteOptions::default(), lz4, zstd] {
            for batch in [batch.clone(), batch.slice(1, 2), batch.slice(0, 0)] {
                let back = decode_all(messages(&batch, &options)).unwrap();
                assert_eq!(back.len(), 1);
                // NaN differs from itself: compare as text.
                assert_eq!(format!("{:?}", back[0]), format!("{batch:?}"));
            }
        }
    }

    #[test]
    fn what_goes_out_comes_in() {
        let batch = many_types();
        let schema = expanded_schema(batch.schema_ref());
        let mut encoder = BatchEncoder::new(Arc::clone(&schema));
        let echoed = Bytes::from_static(b"7");
        let message = encoder.encode_whole(&batch, echoed.clone()).unwrap();
        let mut state = DecodeState::new(LIMITS);
        let seen = state.decode(encoder.schema_message().into()).unwrap();
        assert!(matches!(seen, Some(InboundItem::Schema(seen)) if seen == schema));
        let Some(InboundItem::Batch {
            batch: back,
            app_metadata,
        }) = state.decode(message.into()).unwrap()
        else {
            panic!("no batch")
        };
        assert_eq!(app_metadata, echoed);
        assert_eq!(back.schema(), schema);
        assert_eq!(back.num_rows(), 4);
        assert_eq!(back.column(9).data_type(), &DataType::Utf8);
        assert!(back.column(9).is_null(1));
    }

    #[test]
    fn no_rows_make_a_batch_of_no_rows() {
        let batch = many_types().slice(0, 0);
        let mut encoder = BatchEncoder::new(expanded_schema(batch.schema_ref()));
        let message = encoder.encode_whole(&batch, Bytes::new()).unwrap();
        let back = decode_all(vec![encoder.schema_message().into(), message.into()]).unwrap();
        assert_eq!((back.len(), back[0].num_rows()), (1, 0));
    }

    #[test]
    fn a_second_schema_is_refused_and_so_is_a_batch_of_another_layout() {
        let batch = many_types();
        let options = IpcWriteOptions::default();
        let mut twice = messages(&batch, &options);
        twice.push(twice[0].clone());
        let error = decode_all(twice).unwrap_err();
        assert!(error.to_string().contains("changes mid-stream"), "{error}");

        let other =
            RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![1])) as ArrayRef)])
                .unwrap();
        let mut mixed = messages(&batch, &options);
        mixed.push(messages(&other, &options).pop().unwrap());
        let error = decode_all(mixed).unwrap_err();
        assert!(error.to_string().contains("changes mid-stream"), "{error}");
    }

    #[test]
    fn rows_before_a_schema_are_refused() {
        let rows = messages(&many_types(), &IpcWriteOptions::default())
            .pop()
            .unwrap();
        assert!(matches!(decode_all(vec![rows]), Err(FlightError::NoSchema)));
    }

    #[test]
    fn a_compressed_buffer_that_claims_too_much_is_refused_before_it_is_allocated() {
        let batch = RecordBatch::try_from_iter([(
            "a",
            Arc::new(Int64Array::from(vec![7; 10_000])) as ArrayRef,
        )])
        .unwrap();
        let options = IpcWriteOptions::default()
            .try_with_compression(Some(ipc::CompressionType::LZ4_FRAME))
            .unwrap();
        let mut sent = messages(&batch, &options);
        let rows = sent.last_mut().unwrap();
        let mut body = rows.data_body.to_vec();
        body[..8].copy_from_slice(&(1_i64 << 40).to_le_bytes());
        rows.data_body = body.into();
        assert!(matches!(
            decode_all(sent),
            Err(FlightError::BatchTooLarge { .. })
        ));
    }

    #[test]
    fn rows_out_of_nothing_are_refused() {
        let schema = Schema::new(vec![Field::new("n", DataType::Null, true)]);
        let batch = RecordBatch::try_new(
            Arc::new(schema.clone()),
            vec![Arc::new(NullArray::new(
                usize::try_from(FREE_ROWS_MAX).unwrap() + 1,
            ))],
        )
        .unwrap();
        let sent = messages(&batch, &IpcWriteOptions::default());
        assert_eq!(sent[0], schema_message(&schema).into());
        assert!(matches!(
            decode_all(sent),
            Err(FlightError::BadMessage { .. })
        ));
    }

    #[test]
    fn a_deep_schema_is_refused() {
        let mut field = Field::new("leaf", DataType::Int32, true);
        for _ in 0..DEPTH_MAX + 40 {
            field = Field::new("list", DataType::List(Arc::new(field)), true);
        }
        let sent = schema_message(&Schema::new(vec![field]));
        assert!(matches!(
            decode_all(vec![sent.into()]),
            Err(FlightError::BadMessage { .. })
        ));
    }

    #[test]
    fn a_schema_of_too_many_fields_is_refused() {
        let fields: Vec<Field> = (0..=FIELDS_MAX)
            .map(|number| Field::new(number.to_string(), DataType::Int32, true))
            .collect();
        let sent = schema_message(&Schema::new(fields));
        assert!(matches!(
            decode_all(vec![sent.into()]),
            Err(FlightError::BadMessage { .. })
        ));
    }

    #[test]
    fn hostile_changes_to_good_messages_are_errors_and_never_worse() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let seed = random;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize
        };
        let lz4 = IpcWriteOptions::default()
            .try_with_compression(Some(ipc::CompressionType::LZ4_FRAME))
            .unwrap();
        let streams = [
            messages(&many_types(), &IpcWriteOptions::default()),
            messages(&many_types(), &lz4),
        ];
        let (mut refused, mut read) = (0, 0);
        for round in 0..6_000 {
            let mut stream = streams[round % 2].clone();
            let message = next() % stream.len();
            for _ in 0..=next() % 3 {
                let target = &mut stream[message];
                let in_header = target.data_body.is_empty() || next() % 4 != 0;
                let part = if in_header {
                    &mut target.data_header
                } else {
                    &mut target.data_body
                };
                let mut bytes = part.to_vec();
                let at = next() % bytes.len();
                match next() % 3 {
                    0 => bytes[at] = next() as u8,
                    1 => bytes[at] ^= 1 << (next() % 8),
                    _ => bytes.truncate(at),
                }
                *part = bytes.into();
                if part.is_empty() {
                    break;
                }
            }
            match decode_all(stream) {
                Ok(batches) => {
                    read += 1;
                    // What was let through must be sound to look at.
                    for batch in batches {
                        let _ = format!("{batch:?}");
                    }
                }
                Err(_) => refused += 1,
            }
        }
        std::panic::set_hook(hook);
        println!("seed {seed:#x}: refused {refused}, read {read}");
        assert!(refused > 1_000 && read > 100);
    }
}
