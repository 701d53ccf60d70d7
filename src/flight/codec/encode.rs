//! Record batches in, Flight messages out.
//!
//! The schema goes first, always, and every batch that follows has exactly that schema. arrow-flight's own encoder is
//! passed over: it labels LargeList as List, drops batches without rows, and sends a batch of another schema unchecked.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::root_as_message;
use arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder, StreamWriter,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::Status;

use super::format::{AnswerFormat, Compression};
use super::message::{FlightMessage, shared_bytes};
use super::split::split;
use crate::flight::error::FlightError;
use crate::telemetry::metrics;

/// Largest body of a batch to a client: half of what Go and Rust clients accept by default, and the size beyond
/// which fresh allocations make encoding slower. A dictionary that a client asked to keep goes out whole.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// Rows expanded at a time where a column has to be expanded: bounds what a small dictionary can blow up to.
const EXPANDED_ROWS_MAX: usize = 1 << 14;

/// The message that opens a stream.
pub fn schema_message(schema: &Schema) -> FlightMessage {
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut DictionaryTracker::new(false),
        &IpcWriteOptions::default(),
    );
    FlightMessage {
        data_header: encoded.ipc_message.into(),
        ..FlightMessage::default()
    }
}

/// A schema and batches of it as one Arrow IPC stream, for places that carry bytes.
pub fn stream_bytes(schema: &Schema, batches: &[RecordBatch]) -> Result<Bytes, FlightError> {
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        for batch in batches {
            writer.write(batch)?;
        }
        writer.into_inner()
    };
    write().map(Bytes::from).map_err(encoding_failed)
}

/// The schema, then `batches` in messages of at most [`MESSAGE_BYTES_MAX`]. `advertised` must be what the format makes
/// of a schema.
/// A message is encoded when it is asked for: that costs little, and a task in between would cost two wakes for each.
///
/// Where no rows come for `keep_alive`, a batch without rows goes out: boxes on the way cut streams that are silent, and
/// HTTP/2's pings end at the first of them.
pub fn batch_stream<E>(
    advertised: SchemaRef,
    format: AnswerFormat,
    keep_alive: Duration,
    mut batches: BoxStream<'static, Result<RecordBatch, E>>,
) -> BoxStream<'static, Result<FlightMessage, Status>>
where
    E: Into<Status> + Send + 'static,
{
    async_stream::try_stream! {
        let mut encoder = BatchEncoder::new(Arc::clone(&advertised)).with_compression(format.compression);
        yield encoder.schema_message();
        loop {
            match tokio::time::timeout(keep_alive, batches.next()).await {
                Ok(Some(batch)) => {
                    let batch = batch.map_err(E::into)?;
                    for piece in encoder.conform(&batch) {
                        for part in split(&piece?, MESSAGE_BYTES_MAX) {
                            for message in encoder.encode_with_dictionaries(&part)? {
                                yield message;
                            }
                        }
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    let nothing = RecordBatch::new_empty(Arc::clone(&advertised));
                    for message in encoder.encode_with_dictionaries(&nothing)? {
                        yield message;
                    }
                }
            }
        }
    }
    .boxed()
}

/// Encodes batches of one schema. A message shares the memory of its batch.
pub struct BatchEncoder {
    schema: SchemaRef,
    compression: Compression,
    /// Made with the first batch.
    encoder: Option<StreamEncoder>,
}

impl std::fmt::Debug for BatchEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchEncoder")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl BatchEncoder {
    /// `schema` is what the stream advertises.
    pub fn new(schema: SchemaRef) -> Self {
        Self {
            schema,
            compression: Compression::None,
            encoder: None,
        }
    }

    /// The same with compressed bodies.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        Self {
            compression,
            ..self
        }
    }

    pub fn schema_message(&self) -> FlightMessage {
        schema_message(&self.schema)
    }

    /// The rows of `batch` as batches of exactly the advertised schema: one, or several where columns are expanded.
    pub fn conform(
        &self,
        batch: &RecordBatch,
    ) -> impl Iterator<Item = Result<RecordBatch, FlightError>> + use<> {
        let schema = Arc::clone(&self.schema);
        let as_is = batch
            .columns()
            .iter()
            .map(|column| column.data_type())
            .eq(schema.fields().iter().map(|field| field.data_type()));
        let rows = if as_is { usize::MAX } else { EXPANDED_ROWS_MAX };
        let batch = batch.clone();
        let mut start = 0;
        std::iter::from_fn(move || {
            if start >= batch.num_rows() && start > 0 {
                return None;
            }
            let length = rows.min(batch.num_rows() - start);
            if start == 0 && length == 0 {
                start = 1;
            }
            let piece = if length == batch.num_rows() {
                batch.clone()
            } else {
                batch.slice(start, length)
            };
            start += length;
            Some(conform(&piece, &schema))
        })
    }

    /// One batch of the advertised schema, which has no dictionaries, as one message, whatever its size; no rows make a
    /// message without rows.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<FlightMessage, FlightError> {
        let mut messages = self.encode_with_dictionaries(batch)?;
        match (messages.pop(), messages.is_empty()) {
            (Some(message), true) => Ok(message),
            _ => Err(encoding_failed("a batch made other than one message")),
        }
    }

    /// One batch of the advertised schema as a message, whatever its size, behind those of the dictionaries that it is
    /// the first to need.
    fn encode_with_dictionaries(
        &mut self,
        batch: &RecordBatch,
    ) -> Result<Vec<FlightMessage>, FlightError> {
        let is_first = self.encoder.is_none();
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => {
                let options = IpcWriteOptions::default()
                    .try_with_compression(self.compression.ipc())
                    .map_err(encoding_failed)?;
                let encoder = StreamEncoder::try_new_with_options(&self.schema, options);
                none.insert(encoder.map_err(encoding_failed)?)
            }
        };
        let encapsulated = encoder.encode(batch).map_err(encoding_failed)?;
        let mut encapsulated = encapsulated.into_iter().filter(|piece| !piece.is_empty());
        let mut messages = Vec::with_capacity(1);
        while let Some(prefix) = encapsulated.next() {
            let data_header = message_header(&prefix, &mut encapsulated)?;
            let data_body = message_body(&data_header, &mut encapsulated)?;
            let message = FlightMessage {
                data_header,
                data_body,
                ..FlightMessage::default()
            };
            messages.push(message);
        }
        if is_first {
            // The schema, which Flight sends in a message of its own.
            messages.remove(0);
        }
        let bytes: usize = messages.iter().map(FlightMessage::body_bytes).sum();
        metrics::batch_sent(batch.num_rows() as u64, bytes as u64);
        Ok(messages)
    }

    /// One batch of any rows as one message of the advertised schema.
    pub fn encode_whole(
        &mut self,
        batch: &RecordBatch,
        app_metadata: Bytes,
    ) -> Result<FlightMessage, FlightError> {
        let batch = conform(batch, &self.schema)?;
        Ok(FlightMessage {
            app_metadata,
            ..self.encode(&batch)?
        })
    }
}

/// Takes the metadata off an encapsulated IPC message (a continuation marker, the length of the metadata as four bytes,
/// the metadata padded to that length), whose prefix was taken before; what follows is the body.
fn message_header(
    prefix: &[u8],
    encapsulated: &mut impl Iterator<Item = Buffer>,
) -> Result<Bytes, FlightError> {
    let length = match prefix {
        &[0xff, 0xff, 0xff, 0xff, a, b, c, d] => u32::from_le_bytes([a, b, c, d]) as usize,
        _ => return Err(encoding_failed("the encoder made no encapsulated message")),
    };
    let mut metadata = Vec::with_capacity(length);
    while metadata.len() < length {
        match encapsulated.next() {
            Some(piece) => metadata.extend_from_slice(&piece),
            None => return Err(encoding_failed("the encoder's metadata ends early")),
        }
    }
    Ok(metadata.into())
}

/// Takes as many pieces as the body has that the metadata speaks of.
fn message_body(
    data_header: &[u8],
    encapsulated: &mut impl Iterator<Item = Buffer>,
) -> Result<Vec<Bytes>, FlightError> {
    let message = root_as_message(data_header).map_err(encoding_failed)?;
    let mut remaining = usize::try_from(message.bodyLength()).map_err(encoding_failed)?;
    let mut pieces = Vec::new();
    while remaining > 0 {
        let piece = encapsulated
            .next()
            .filter(|piece| piece.len() <= remaining)
            .ok_or_else(|| encoding_failed("the encoder's body has another length than it says"))?;
        remaining -= piece.len();
        pieces.push(shared_bytes(piece));
    }
    Ok(pieces)
}

/// Casts what differs, refuses what cannot be made to fit: an advertised schema is a promise.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, FlightError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    if batch.num_columns() != schema.fields().len() {
        return Err(encoding_failed(format!(
            "a batch has {} columns, its stream promised {}",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast(column, field.data_type())
            }
        })
        .collect::<Result<Vec<ArrayRef>, ArrowError>>()
        .map_err(encoding_failed)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(encoding_failed)
}

fn encoding_failed(reason: impl std::fmt::Display) -> FlightError {
    FlightError::Internal {
        doing: "encoding rows",
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::codec::{Dictionaries, expanded_schema};
    use arrow::array::{
        BooleanArray, DictionaryArray, FixedSizeListArray, Float64Array, Int32Array,
        LargeListArray, ListArray, NullArray, StringArray, StringViewArray, StructArray,
    };
    use arrow::datatypes::{DataType, Field, Float32Type, Int32Type, Int64Type};
    use arrow_flight::FlightData;

    fn one(name: &str, column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([(name, column, true)]).unwrap()
    }

    fn many_types(rows: usize) -> RecordBatch {
        let strings: Vec<Option<String>> = (0..rows)
            .map(|row| (row % 7 != 0).then(|| "é".repeat(row % 50)))
            .collect();
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>((0..rows).map(|row| {
            (row % 5 != 0).then(|| {
                (0..row % 9)
                    .map(|value| Some(value as i32))
                    .collect::<Vec<_>>()
            })
        }));
        let large = LargeListArray::from_iter_primitive::<Int64Type, _, _>(
            (0..rows).map(|row| Some(vec![Some(row as i64), None])),
        );
        let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            (0..rows).map(|row| (row % 3 != 0).then(|| vec![Some(row as f32); 4])),
            4,
        );
        let floats: ArrayRef = Arc::new(Float64Array::from_iter_values(
            (0..rows).map(|row| row as f64),
        ));
        let structs = StructArray::from(vec![(
            Arc::new(Field::new("inner", DataType::Float64, false)),
            Arc::clone(&floats),
        )]);
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("float", floats, false),
            ("text", Arc::new(StringArray::from(strings)), true),
            (
                "flag",
                Arc::new(
                    (0..rows)
                        .map(|row| Some(row % 2 == 0))
                        .collect::<BooleanArray>(),
                ),
                true,
            ),
            ("list", Arc::new(list), true),
            ("large", Arc::new(large), true),
            ("fixed", Arc::new(fixed), true),
            ("struct", Arc::new(structs), false),
            ("nothing", Arc::new(NullArray::new(rows)), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    #[test]
    fn parts_are_within_the_limit_and_make_up_the_whole() {
        let batch = many_types(20_000).slice(123, 15_000);
        let limit = 100_000;
        let parts = split(&batch, limit);
        assert!(parts.len() > 10);
        let mut encoder = BatchEncoder::new(batch.schema());
        let (mut bytes, mut short) = (0, 0);
        for part in &parts {
            let message = encoder.encode(part).unwrap();
            assert!(message.body_bytes() <= limit, "{}", message.body_bytes());
            bytes += message.body_bytes();
            short += usize::from(message.body_bytes() <= limit / 8);
        }
        // Only the last of equal parts may be short.
        assert!(
            short <= 1 && bytes / parts.len() > limit / 3,
            "{bytes} bytes in {} parts of {:?} rows",
            parts.len(),
            parts.iter().map(RecordBatch::num_rows).collect::<Vec<_>>()
        );
        let whole = arrow::compute::concat_batches(&batch.schema(), &parts).unwrap();
        assert_eq!(whole, batch);
    }

    #[test]
    fn one_large_row_among_small_ones_does_not_make_every_message_small() {
        let mut text = vec!["x".to_owned(); 10_000];
        text[5_000] = "y".repeat(5_000_000);
        let batch = one("text", Arc::new(StringArray::from(text)));
        let parts = split(&batch, MESSAGE_BYTES_MAX);
        assert!(parts.len() < 50, "{}", parts.len());
        assert_eq!(
            parts.iter().map(RecordBatch::num_rows).sum::<usize>(),
            10_000
        );
    }

    #[test]
    fn dictionaries_and_views_leave_as_their_values() {
        let dictionary: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let views = StringViewArray::from(vec![
            Some("a string of more than twelve bytes"),
            None,
            Some("c"),
        ]);
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("d", Arc::new(dictionary) as ArrayRef, false),
            ("v", Arc::new(views) as ArrayRef, true),
        ])
        .unwrap();
        let encoder = BatchEncoder::new(expanded_schema(batch.schema_ref()));
        let plain: Vec<_> = encoder.conform(&batch).collect::<Result<_, _>>().unwrap();
        assert_eq!(plain.len(), 1);
        assert_eq!(
            plain[0].column(0).as_ref(),
            &StringArray::from(vec!["a", "b", "a"]) as &dyn Array
        );
        assert_eq!(
            plain[0].schema().field(0),
            &Field::new("d", DataType::Utf8, false)
        );
        assert_eq!(plain[0].column(1).data_type(), &DataType::Utf8);
    }

    #[tokio::test]
    async fn dictionaries_that_are_kept_go_out_once_for_all_rows_that_share_them() {
        let dictionary = |words: [&str; 3]| -> DictionaryArray<Int32Type> {
            words
                .into_iter()
                .map(|word| (word != "-").then_some(word))
                .collect()
        };
        let first = one("d", Arc::new(dictionary(["a", "b", "a"])));
        let same = first.slice(1, 2);
        let other = one("d", Arc::new(dictionary(["c", "-", "a"])));
        let batches = vec![first.clone(), same, other];
        let format = AnswerFormat {
            dictionaries: Dictionaries::Keep,
            ..AnswerFormat::default()
        };
        let schema = format.advertised(first.schema_ref());
        assert_eq!(schema, first.schema());

        let rows = futures::stream::iter(batches.clone()).map(Ok::<_, FlightError>);
        let every = Duration::from_secs(60);
        let messages: Vec<FlightData> = batch_stream(schema, format, every, rows.boxed())
            .map(|message| message.unwrap().into())
            .collect()
            .await;
        let dictionaries = messages.iter().filter(|message| {
            let message = arrow::ipc::root_as_message(&message.data_header).unwrap();
            message.header_as_dictionary_batch().is_some()
        });
        assert_eq!(dictionaries.count(), 2);
        let read = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(
            futures::stream::iter(messages).map(Ok),
        );
        let read: Vec<RecordBatch> = read.map(Result::unwrap).collect().await;
        let texts = |batches: &[RecordBatch]| -> Vec<ArrayRef> {
            let columns = batches.iter().map(|batch| batch.column(0));
            columns
                .map(|column| cast(column, &DataType::Utf8).unwrap())
                .collect()
        };
        assert_eq!(read[0].schema(), first.schema());
        assert_eq!(texts(&read), texts(&batches));
    }

    #[tokio::test]
    async fn a_dictionary_without_values_goes_out_as_well_and_so_it_does_in_silence() {
        let words = |words: Vec<Option<&str>>| -> ArrayRef {
            Arc::new(words.into_iter().collect::<DictionaryArray<Int32Type>>())
        };
        let batch = |one, other| {
            RecordBatch::try_from_iter_with_nullable([("a", one, true), ("b", other, true)])
                .unwrap()
        };
        let nothing = batch(words(vec![None, None]), words(vec![Some("x"), None]));
        let something = batch(words(vec![Some("y"), None]), words(vec![None, Some("x")]));
        let format = AnswerFormat {
            dictionaries: Dictionaries::Keep,
            ..AnswerFormat::default()
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let batches = vec![nothing, something];
        let later = batches.clone();
        let rows = futures::stream::once(async {
            receiver.await.expect("sent");
            futures::stream::iter(later).map(Ok::<_, FlightError>)
        });
        let every = Duration::from_millis(2);
        let mut messages = batch_stream(
            format.advertised(batches[0].schema_ref()),
            format,
            every,
            rows.flatten().boxed(),
        );
        // The schema, and a batch without rows behind its two dictionaries.
        let mut sent: Vec<FlightData> = Vec::new();
        for _ in 0..4 {
            sent.push(messages.next().await.unwrap().unwrap().into());
        }
        sender.send(()).unwrap();
        let rest = messages.map(|message| FlightData::from(message.unwrap()));
        sent.extend(rest.collect::<Vec<_>>().await);
        let read = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(
            futures::stream::iter(sent).map(Ok),
        );
        let read: Vec<RecordBatch> = read.map(Result::unwrap).collect().await;
        let texts = |batch: &RecordBatch| -> Vec<ArrayRef> {
            let columns = batch.columns().iter();
            columns
                .map(|column| cast(column, &DataType::Utf8).unwrap())
                .collect()
        };
        let read: Vec<_> = read
            .iter()
            .filter(|batch| batch.num_rows() > 0)
            .map(texts)
            .collect();
        assert_eq!(read, batches.iter().map(texts).collect::<Vec<_>>());
    }

    #[test]
    fn a_dictionary_is_kept_as_a_column_and_expanded_deeper_down() {
        let words = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8View));
        let item = Arc::new(Field::new("item", words.clone(), true));
        let schema = Schema::new(vec![
            Field::new("column", words, false),
            Field::new("list", DataType::List(item), true),
        ]);
        let format = AnswerFormat {
            dictionaries: Dictionaries::Keep,
            ..AnswerFormat::default()
        };
        let plain = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let expected = Schema::new(vec![
            Field::new("column", plain, false),
            Field::new("list", DataType::List(item), true),
        ]);
        assert_eq!(*format.advertised(&schema), expected);
    }

    #[tokio::test]
    async fn a_stream_that_has_nothing_to_send_yet_is_not_silent() {
        let batch = many_types(3);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let rows = futures::stream::once(async {
            receiver.await.expect("sent");
            Ok::<_, FlightError>(many_types(3))
        });
        let every = Duration::from_millis(5);
        let mut messages =
            batch_stream(batch.schema(), AnswerFormat::default(), every, rows.boxed());
        assert_eq!(messages.next().await.unwrap().unwrap().body_bytes(), 0);
        let rows_of = |message: FlightMessage| {
            let message = arrow::ipc::root_as_message(&message.data_header)
                .map(|message| message.header_as_record_batch().expect("a batch").length());
            message.unwrap()
        };
        for _ in 0..3 {
            assert_eq!(rows_of(messages.next().await.unwrap().unwrap()), 0);
        }
        sender.send(()).unwrap();
        let rest: Vec<_> = messages
            .map(|message| rows_of(message.unwrap()))
            .collect()
            .await;
        assert_eq!(rest.last(), Some(&3), "{rest:?}");
    }

    #[test]
    fn bodies_are_compressed_when_asked() {
        let batch = many_types(5_000);
        let plain = BatchEncoder::new(batch.schema()).encode(&batch).unwrap();
        for compression in [Compression::Lz4, Compression::Zstd] {
            let mut encoder = BatchEncoder::new(batch.schema()).with_compression(compression);
            let small = encoder.encode(&batch).unwrap();
            assert!(
                small.body_bytes() * 2 < plain.body_bytes(),
                "{compression:?}"
            );
            let back = arrow_flight::utils::flight_data_to_arrow_batch(
                &small.into(),
                batch.schema(),
                &std::collections::HashMap::new(),
            );
            assert_eq!(back.unwrap(), batch);
        }
    }

    #[test]
    fn a_batch_that_breaks_the_promise_is_refused() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, false)]));
        let batch = one("a", Arc::new(Int32Array::from(vec![Some(1), None])));
        assert!(conform(&batch, &schema).is_err());
        let batch = one("a", Arc::new(Int32Array::from(vec![Some(1), Some(2)])));
        assert_eq!(conform(&batch, &schema).unwrap().schema(), schema);
    }

    #[test]
    fn the_schema_message_keeps_large_lists() {
        let schema = many_types(1).schema();
        let message = FlightData::from(schema_message(&schema));
        assert_eq!(Schema::try_from(&message).unwrap(), *schema);
    }
}
