//! Datasets told as stories: every type there and back, versions, races, broken uploads, a full disk.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::*;

use super::*;

struct Store {
    directory: tempfile::TempDir,
    datasets: Datasets,
}

fn store() -> Store {
    let directory = tempfile::tempdir().unwrap();
    let datasets = Datasets::new(
        Objects::open(directory.path().to_str().unwrap()).unwrap(),
        0,
    );
    Store {
        directory,
        datasets,
    }
}

impl Store {
    async fn put(
        &self,
        name: &str,
        mode: WriteMode,
        batches: &[RecordBatch],
    ) -> Result<Dataset, CatalogError> {
        let mut writer = self.datasets.write(name, batches[0].schema(), mode).await?;
        for batch in batches {
            writer.write(batch.clone()).await?;
        }
        writer.commit().await
    }

    async fn open(&self, reference: &str) -> Result<Dataset, CatalogError> {
        self.datasets
            .open(&DatasetReference::parse(reference)?)
            .await
    }

    /// Every file below the store, to see that nothing was left.
    fn files(&self) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.directory.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found
    }
}

async fn all(dataset: &Dataset) -> RecordBatch {
    let batches: Vec<RecordBatch> = dataset.scan(None).map(Result::unwrap).collect().await;
    for batch in &batches {
        assert_eq!(batch.schema(), dataset.schema);
    }
    concat_batches(&dataset.schema, &batches).unwrap()
}

fn numbers(values: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

async fn count(dataset: &Dataset) -> Vec<i64> {
    let batch = all(dataset).await;
    batch
        .column(0)
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

/// One column of three rows of every type in the table of `storage::physical`: a value, a null, an edge.
fn every_type() -> Vec<ArrayRef> {
    let text = StringArray::from(vec![Some("ä b"), None, Some("")]);
    let bytes = BinaryArray::from_opt_vec(vec![Some(b"\x00\xff\x01\x02"), None, Some(b"abcd")]);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(1_700_000_000)]));
    let nanoseconds = vec![Some(1_700_000_000_123_456_789), None, Some(-1)];
    let whole = vec![Some(1_700_000_000_123_456_000), None, Some(-1_000)];
    let small: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(86_399)]));
    let as_type = |array: &ArrayRef, to: DataType| cast(array, &to).unwrap();
    let text_as = |to: DataType| cast(&text, &to).unwrap();

    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(NullArray::new(3)),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX)])),
        Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)])),
        Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
        Arc::new(UInt8Array::from(vec![Some(0), None, Some(u8::MAX)])),
        Arc::new(UInt16Array::from(vec![Some(0), None, Some(u16::MAX)])),
        Arc::new(UInt32Array::from(vec![Some(0), None, Some(u32::MAX)])),
        Arc::new(UInt64Array::from(vec![Some(0), None, Some(u64::MAX)])),
        as_type(
            &(Arc::new(Float32Array::from(vec![Some(1.5), None, Some(-65504.0)])) as ArrayRef),
            DataType::Float16,
        ),
        Arc::new(Float32Array::from(vec![
            Some(f32::MIN_POSITIVE),
            None,
            Some(f32::INFINITY),
        ])),
        Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::MAX)])),
        Arc::new(text.clone()),
        text_as(DataType::LargeUtf8),
        text_as(DataType::Utf8View),
        text_as(DataType::Dictionary(
            Box::new(DataType::Int8),
            Box::new(DataType::Utf8),
        )),
        text_as(DataType::Dictionary(
            Box::new(DataType::UInt32),
            Box::new(DataType::LargeUtf8),
        )),
        Arc::new(bytes.clone()),
        cast(&bytes, &DataType::LargeBinary).unwrap(),
        cast(&bytes, &DataType::BinaryView).unwrap(),
        cast(&bytes, &DataType::FixedSizeBinary(4)).unwrap(),
        as_type(&small, DataType::Date32),
        as_type(&numbers, DataType::Date64),
        as_type(&small, DataType::Time32(TimeUnit::Second)),
        as_type(&small, DataType::Time32(TimeUnit::Millisecond)),
        as_type(&numbers, DataType::Time64(TimeUnit::Microsecond)),
        as_type(&numbers, DataType::Time64(TimeUnit::Nanosecond)),
        Arc::new(TimestampNanosecondArray::from(nanoseconds.clone())),
        Arc::new(TimestampNanosecondArray::from(nanoseconds).with_timezone("Europe/Berlin")),
        Arc::new(TimestampNanosecondArray::from(whole)),
        Arc::new(IntervalYearMonthArray::from(vec![Some(14), None, Some(-1)])),
        Arc::new(IntervalDayTimeArray::from(vec![
            Some(IntervalDayTime::new(1, -2)),
            None,
            Some(IntervalDayTime::ZERO),
        ])),
        Arc::new(IntervalMonthDayNanoArray::from(vec![
            Some(IntervalMonthDayNano::new(1, -2, i64::MAX)),
            None,
            Some(IntervalMonthDayNano::ZERO),
        ])),
    ];
    for unit in [
        TimeUnit::Second,
        TimeUnit::Millisecond,
        TimeUnit::Microsecond,
        TimeUnit::Nanosecond,
    ] {
        columns.push(as_type(&numbers, DataType::Duration(unit)));
        columns.push(as_type(&numbers, DataType::Timestamp(unit, None)));
        let zone = Some("+02:00".into());
        let utc = as_type(&numbers, DataType::Timestamp(unit, Some("UTC".into())));
        columns.push(as_type(&utc, DataType::Timestamp(unit, zone)));
        columns.push(utc);
    }
    for decimal in [
        DataType::Decimal32(9, 2),
        DataType::Decimal64(18, 3),
        DataType::Decimal128(38, 10),
        DataType::Decimal128(10, 0),
        DataType::Decimal256(30, 4),
        DataType::Decimal256(76, 10),
    ] {
        let little: ArrayRef = Arc::new(Int64Array::from(vec![Some(123), None, Some(-7)]));
        columns.push(as_type(&little, decimal));
    }
    columns.push(Arc::new(
        Decimal128Array::from(vec![Some(12), None, Some(-7)])
            .with_precision_and_scale(5, -3)
            .unwrap(),
    ));
    columns.extend(nested(&text));
    columns
}

fn nested(text: &StringArray) -> Vec<ArrayRef> {
    let item = |data_type: DataType| Arc::new(Field::new_list_field(data_type, true));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 2, 2, 3]));
    let nulls = NullBuffer::from(vec![true, false, true]);
    let values: ArrayRef = Arc::new(UInt8Array::from(vec![Some(1), None, Some(255)]));
    let list: ArrayRef = Arc::new(ListArray::new(
        item(DataType::UInt8),
        offsets.clone(),
        values,
        Some(nulls.clone()),
    ));
    let fixed = FixedSizeListArray::new(
        Arc::new(Field::new("item", DataType::Float32, false)),
        2,
        Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        None,
    );
    let fixed_nullable = FixedSizeListArray::new(
        item(DataType::UInt16),
        2,
        Arc::new(UInt16Array::from(vec![
            Some(1),
            None,
            None,
            None,
            Some(5),
            Some(6),
        ])),
        Some(nulls.clone()),
    );
    let empty_fixed = FixedSizeListArray::try_new_with_length(
        item(DataType::Float32),
        0,
        Arc::new(Float32Array::from(Vec::<f32>::new())),
        None,
        3,
    )
    .unwrap();
    let metadata = HashMap::from([("unit".to_string(), "m".to_string())]);
    let members: Fields = vec![
        Field::new("half", DataType::UInt64, true).with_metadata(metadata),
        Field::new("lists", list.data_type().clone(), true),
        Field::new("always", DataType::LargeUtf8, false),
    ]
    .into();
    let always: ArrayRef = Arc::new(LargeStringArray::from(vec!["x", "y", "z"]));
    let structs = StructArray::new(
        members,
        vec![
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(2), None])),
            Arc::clone(&list),
            always,
        ],
        Some(nulls.clone()),
    );
    let structs: ArrayRef = Arc::new(structs);
    let list_of_structs = ListArray::new(
        item(structs.data_type().clone()),
        offsets.clone(),
        Arc::clone(&structs),
        Some(nulls.clone()),
    );
    let entries: Fields = vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::UInt32, true),
    ]
    .into();
    let map = MapArray::new(
        Arc::new(Field::new(
            "entries",
            DataType::Struct(entries.clone()),
            false,
        )),
        offsets,
        StructArray::new(
            entries,
            vec![
                Arc::new(StringArray::from(vec!["a", "b", "a"])),
                Arc::new(UInt32Array::from(vec![Some(1), None, Some(u32::MAX)])),
            ],
            None,
        ),
        Some(nulls),
        false,
    );
    let runs = cast(
        text,
        &DataType::RunEndEncoded(
            Arc::new(Field::new("run_ends", DataType::Int16, false)),
            Arc::new(Field::new("values", DataType::Utf8, true)),
        ),
    )
    .unwrap();
    vec![
        cast(&list, &DataType::LargeList(item(DataType::UInt8))).unwrap(),
        cast(&list, &DataType::ListView(item(DataType::UInt8))).unwrap(),
        cast(&list, &DataType::LargeListView(item(DataType::UInt8))).unwrap(),
        list,
        Arc::new(fixed),
        Arc::new(fixed_nullable),
        Arc::new(empty_fixed),
        structs,
        Arc::new(list_of_structs),
        Arc::new(map),
        runs,
    ]
}

fn as_columns(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let name = format!("{place} {}", column.data_type());
            let mark = HashMap::from([("place".to_string(), place.to_string())]);
            Field::new(name, column.data_type().clone(), true).with_metadata(mark)
        })
        .collect();
    let metadata = HashMap::from([("pandas".to_string(), "{}".to_string())]);
    let schema = Schema::new_with_metadata(fields, metadata);
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

#[tokio::test]
async fn every_type_comes_back_equal() {
    for column in every_type() {
        let store = store();
        let data_type = column.data_type().clone();
        let batch = as_columns(vec![column]);
        let written = store
            .put("t", WriteMode::Error, std::slice::from_ref(&batch))
            .await;
        let written = written.unwrap_or_else(|error| panic!("{data_type}: {error}"));
        assert_eq!(written.schema, batch.schema(), "{data_type}");
        assert_eq!(all(&written).await, batch, "{data_type}");
        assert_eq!(
            all(&store.open("t").await.unwrap()).await,
            batch,
            "{data_type}"
        );
    }
}

#[tokio::test]
async fn a_table_of_every_type_is_sliced_projected_and_empty() {
    let store = store();
    let batch = as_columns(every_type());
    let parts = [batch.slice(0, 1), batch.slice(1, 2)];
    let dataset = store.put("t", WriteMode::Error, &parts).await.unwrap();
    assert_eq!(dataset.rows, 3);
    assert_eq!(all(&dataset).await, batch);

    let names: Vec<String> = [20, 3, 60]
        .map(|place| batch.schema().field(place).name().clone())
        .into();
    let read = dataset.read_row_group(0, 0, Some(&names)).await.unwrap();
    assert_eq!(
        read[0],
        batch
            .project(&[20, 3, 60])
            .unwrap()
            .slice(0, read[0].num_rows())
    );
    assert!(dataset.read_row_group(0, 9, None).await.is_err());
    let unknown = dataset.read_row_group(0, 0, Some(&["x".into()])).await;
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .contains("there is no column \"x\"")
    );

    let empty = store
        .put(
            "empty",
            WriteMode::Error,
            &[RecordBatch::new_empty(batch.schema())],
        )
        .await
        .unwrap();
    assert_eq!((empty.rows, empty.files.len()), (0, 0));
    assert_eq!(store.open("empty").await.unwrap().schema, batch.schema());
    assert_eq!(store.datasets.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn nanoseconds_go_to_a_file_of_their_own_from_the_first_odd_one() {
    let store = store();
    let times = |values: Vec<i64>| {
        let column: ArrayRef = Arc::new(TimestampNanosecondArray::from(values));
        RecordBatch::try_from_iter([("t", column)]).unwrap()
    };
    let batches = [
        times(vec![1_000, 2_000]),
        times(vec![3_000, 4_001]),
        times(vec![5_000]),
    ];
    let dataset = store.put("t", WriteMode::Error, &batches).await.unwrap();
    assert_eq!(dataset.files.len(), 2);
    assert_eq!(
        all(&dataset).await,
        concat_batches(&dataset.schema, &batches).unwrap()
    );
}

#[tokio::test]
async fn dictionaries_that_outgrow_their_keys_come_back_in_parts() {
    let store = store();
    let words = |from: usize| {
        let words: Vec<String> = (from..from + 100)
            .map(|word| format!("word {word}"))
            .collect();
        let words: ArrayRef = Arc::new(StringArray::from(words));
        let to = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        RecordBatch::try_from_iter([("w", cast(&words, &to).unwrap())]).unwrap()
    };
    let dataset = store
        .put("t", WriteMode::Error, &[words(0), words(100), words(200)])
        .await
        .unwrap();
    let batches: Vec<RecordBatch> = dataset.scan(None).map(Result::unwrap).collect().await;
    let texts: Vec<String> = batches
        .iter()
        .flat_map(|batch| {
            assert_eq!(batch.schema(), dataset.schema);
            let texts = cast(batch.column(0), &DataType::Utf8).unwrap();
            texts
                .as_string::<i32>()
                .iter()
                .map(|t| t.unwrap().to_string())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(
        texts,
        (0..300)
            .map(|word| format!("word {word}"))
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_before_the_first_row() {
    let store = store();
    let refuse = async |fields: Vec<Field>| {
        let schema = Arc::new(Schema::new(fields));
        let begun = store.datasets.write("t", schema, WriteMode::Error).await;
        begun.map(|_| ()).unwrap_err().to_string()
    };
    let int = |name: &str| Field::new(name, DataType::Int64, true);
    assert!(refuse(vec![]).await.contains("there are no columns"));
    assert!(
        refuse(vec![int("a"), int("a")])
            .await
            .contains("another column has the same name")
    );
    assert!(
        refuse(vec![int("a"), int("A")])
            .await
            .contains("differs in upper and lower case")
    );
    assert!(refuse(vec![int("")]).await.contains("it has no name"));
    let union = DataType::Union(UnionFields::empty(), UnionMode::Sparse);
    let text = refuse(vec![Field::new("u", union, true)]).await;
    assert!(text.starts_with("column \"u\" of type Union"), "{text}");
    let bare = DataType::Struct(Fields::empty());
    assert!(
        refuse(vec![Field::new("s", bare, true)])
            .await
            .contains("at least one field")
    );
    let deep = (0..80).fold(DataType::Int64, |inner, _| DataType::new_list(inner, true));
    assert!(
        refuse(vec![Field::new("d", deep, true)])
            .await
            .contains("64 deep")
    );
    store.datasets.settled().await;
    assert!(store.files().is_empty());
}

#[tokio::test]
async fn odd_column_names_are_kept() {
    let store = store();
    let names = [
        "sepal length (cm)",
        "a.b",
        "x,y;{z}=1",
        "tab\tand\nline",
        "größe",
        "\"quoted\"",
        "%20",
        "/",
    ];
    let columns = names.map(|name| (name, Arc::new(Int64Array::from(vec![1])) as ArrayRef));
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let dataset = store
        .put("t", WriteMode::Error, std::slice::from_ref(&batch))
        .await
        .unwrap();
    assert_eq!(all(&dataset).await, batch);
}

#[tokio::test]
async fn modes_do_what_they_say_and_versions_stay() {
    let store = store();
    let zero = store
        .put("t", WriteMode::Error, &[numbers(0..3)])
        .await
        .unwrap();
    assert_eq!(zero.version, 0);
    let again = store
        .put("t", WriteMode::Error, &[numbers(0..3)])
        .await
        .unwrap_err();
    assert!(matches!(again, CatalogError::DatasetExists { .. }));
    let one = store
        .put("t", WriteMode::Append, &[numbers(3..5)])
        .await
        .unwrap();
    assert_eq!((one.version, count(&one).await), (1, vec![0, 1, 2, 3, 4]));

    let text: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1, 2]));
    let other = RecordBatch::try_from_iter([("other", text)]).unwrap();
    let two = store
        .put("t", WriteMode::Overwrite, std::slice::from_ref(&other))
        .await
        .unwrap();
    assert_eq!((two.version, all(&two).await), (2, other.clone()));

    assert_eq!(count(&store.open("t@0").await.unwrap()).await, [0, 1, 2]);
    assert_eq!(
        count(&store.open("t@1").await.unwrap()).await,
        [0, 1, 2, 3, 4]
    );
    assert_eq!(all(&store.open("t").await.unwrap()).await, other);
    assert_eq!(
        store.open("t@3").await.unwrap_err().to_string(),
        "dataset \"t\" has no version 3; versions 0 to 2 exist"
    );
    assert_eq!(
        store.open("tt").await.unwrap_err().to_string(),
        "there is no dataset \"tt\"; did you mean \"t\""
    );
    for bad in ["t@", "t@-1", "t@x", "t@1@2", "a/b", ""] {
        assert!(store.open(bad).await.is_err(), "{bad}");
    }

    let missing = store
        .put("t", WriteMode::Append, &[numbers(0..1)])
        .await
        .unwrap_err();
    assert_eq!(
        missing.to_string(),
        "the rows do not fit dataset \"t\": column \"other\" is missing"
    );
    store.datasets.remove("t").await.unwrap();
    assert!(store.open("t").await.is_err());
    assert!(store.datasets.list().await.unwrap().is_empty());
    store.datasets.settled().await;
    assert!(store.files().is_empty(), "{:?}", store.files());
    let new = store
        .put("t", WriteMode::Append, &[numbers(7..8)])
        .await
        .unwrap();
    assert_eq!(
        (new.version, count(&store.open("t").await.unwrap()).await),
        (0, vec![7])
    );
}

#[tokio::test]
async fn appended_columns_are_matched_by_name_and_checked_by_type() {
    let store = store();
    let a = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let b = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    let rows =
        |columns| RecordBatch::try_from_iter::<Vec<(&str, ArrayRef)>, &str>(columns).unwrap();
    let first = rows(vec![("a", a(vec![1])), ("b", b(vec!["x"]))]);
    store.put("t", WriteMode::Error, &[first]).await.unwrap();

    let large: ArrayRef = Arc::new(LargeStringArray::from(vec!["y"]));
    let turned = rows(vec![("b", large), ("a", a(vec![2]))]);
    let dataset = store.put("t", WriteMode::Append, &[turned]).await.unwrap();
    let expected = rows(vec![("a", a(vec![1, 2])), ("b", b(vec!["x", "y"]))]);
    assert_eq!(all(&dataset).await.columns(), expected.columns());

    let wrong = rows(vec![("a", b(vec!["z"])), ("b", b(vec!["z"]))]);
    assert_eq!(
        store
            .put("t", WriteMode::Append, &[wrong])
            .await
            .unwrap_err()
            .to_string(),
        "the rows do not fit dataset \"t\": column \"a\" is Int64 in the dataset and Utf8 in these rows"
    );
    let more = rows(vec![
        ("a", a(vec![1])),
        ("b", b(vec!["z"])),
        ("c", a(vec![1])),
    ]);
    let text = store
        .put("t", WriteMode::Append, &[more])
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("no column \"c\""), "{text}");
    assert_eq!(store.open("t").await.unwrap().version, 1);
}

#[tokio::test]
async fn a_batch_of_another_schema_and_a_null_where_none_may_be_break_the_upload() {
    let store = store();
    let field = Field::new("n", DataType::Int64, false);
    let strict = Arc::new(Schema::new(vec![field]));
    let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let with_null = RecordBatch::try_from_iter_with_nullable([("n", column, true)]).unwrap();
    let mut writer = store
        .datasets
        .write("t", Arc::clone(&strict), WriteMode::Error)
        .await
        .unwrap();
    writer.write(with_null).await.unwrap();
    let text = writer.commit().await.unwrap_err().to_string();
    assert!(
        text.contains("\"n\" is declared without nulls and has 1"),
        "{text}"
    );

    let mut writer = store
        .datasets
        .write("t", strict, WriteMode::Error)
        .await
        .unwrap();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let other = RecordBatch::try_from_iter([("n", text)]).unwrap();
    let error = writer.write(other).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("of type Utf8 where the upload began with")
    );
    writer.abort().await;
    store.datasets.settled().await;
    assert!(store.files().is_empty());
}

#[tokio::test]
async fn a_broken_upload_leaves_no_version_and_no_file() {
    let store = store();
    store
        .put("t", WriteMode::Error, &[numbers(0..10)])
        .await
        .unwrap();
    let before = store.files();
    for abort in [true, false] {
        let begun = store
            .datasets
            .write("t", numbers(0..1).schema(), WriteMode::Append)
            .await;
        let mut writer = begun.unwrap();
        for part in 0..4 {
            let rows = part * 100_000..(part + 1) * 100_000;
            writer.write(numbers(rows)).await.unwrap();
        }
        if abort {
            writer.abort().await;
        } else {
            drop(writer);
        }
    }
    store.datasets.settled().await;
    assert_eq!(store.files(), before);
    assert_eq!(store.open("t").await.unwrap().version, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_once_all_append_and_of_creators_one_wins() {
    let store = Arc::new(store());
    let create = |writer: i64| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            store
                .put("t", WriteMode::Error, &[numbers(writer..writer + 1)])
                .await
        })
    };
    let mut won = 0;
    for task in (0..8).map(create).collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(dataset) => {
                assert_eq!(dataset.version, 0);
                won += 1;
            }
            Err(error) => assert!(
                matches!(error, CatalogError::DatasetExists { .. }),
                "{error}"
            ),
        }
    }
    assert_eq!(won, 1);

    let append = |writer: i64| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let rows = numbers(100 + writer..101 + writer);
            store
                .put("t", WriteMode::Append, &[rows])
                .await
                .unwrap()
                .version
        })
    };
    let mut versions = Vec::new();
    for task in (0..12).map(append).collect::<Vec<_>>() {
        versions.push(task.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=12).collect::<Vec<_>>());
    let mut rows = count(&store.open("t").await.unwrap()).await;
    rows.sort_unstable();
    assert_eq!(rows[1..], (100..112).collect::<Vec<_>>());
    store.datasets.settled().await;
    let parquet = |path: &&std::path::PathBuf| path.extension().is_some_and(|e| e == "parquet");
    assert_eq!(store.files().iter().filter(parquet).count(), 13);
}

#[tokio::test]
async fn an_upload_to_a_table_that_was_removed_meanwhile_changes_nothing() {
    let store = store();
    store
        .put("t", WriteMode::Error, &[numbers(0..1)])
        .await
        .unwrap();
    let begun = store
        .datasets
        .write("t", numbers(0..1).schema(), WriteMode::Append)
        .await;
    let mut writer = begun.unwrap();
    writer.write(numbers(5..6)).await.unwrap();
    store.datasets.remove("t").await.unwrap();
    // Append creates what does not exist, and by now it does not.
    let dataset = writer.commit().await.unwrap();
    assert_eq!((dataset.version, count(&dataset).await), (0, vec![5]));
}

#[tokio::test]
async fn what_needs_a_table_makes_none_whenever_it_was_removed() {
    let store = store();
    for mode in [WriteMode::AppendExisting, WriteMode::OverwriteExisting] {
        let never = store.put("t", mode, &[numbers(0..1)]).await.unwrap_err();
        assert!(matches!(never, CatalogError::UnknownDataset { .. }));

        store
            .put("t", WriteMode::Error, &[numbers(0..1)])
            .await
            .unwrap();
        let dataset = store.put("t", mode, &[numbers(1..2)]).await.unwrap();
        let expected = match mode {
            WriteMode::AppendExisting => vec![0, 1],
            _ => vec![1],
        };
        assert_eq!(count(&dataset).await, expected);

        let begun = store.datasets.write("t", numbers(0..1).schema(), mode);
        let mut writer = begun.await.unwrap();
        writer.write(numbers(5..6)).await.unwrap();
        store.datasets.remove("t").await.unwrap();
        let removed = writer.commit().await.unwrap_err();
        assert!(matches!(removed, CatalogError::UnknownDataset { .. }));
        assert_eq!(store.files(), Vec::<std::path::PathBuf>::new());
    }
}

#[tokio::test]
async fn large_uploads_are_cut_into_row_groups_and_checkpoints_are_read_back() {
    let store = store();
    let dataset = store
        .put(
            "t",
            WriteMode::Error,
            &[numbers(0..70_000), numbers(70_000..200_000)],
        )
        .await
        .unwrap();
    assert_eq!(dataset.files[0].row_groups, [65_536, 65_536, 65_536, 3_392]);
    assert_eq!(dataset.rows, 200_000);
    assert_eq!(count(&dataset).await, (0..200_000).collect::<Vec<_>>());
    for next in 0..101 {
        store
            .put("u", WriteMode::Append, &[numbers(next..next + 1)])
            .await
            .unwrap();
    }
    assert!(
        store
            .files()
            .iter()
            .any(|path| path.to_string_lossy().contains("checkpoint"))
    );
    let dataset = store.open("u").await.unwrap();
    assert_eq!(count(&dataset).await, (0..101).collect::<Vec<_>>());
    assert_eq!(dataset.files.len(), 101);
    store.datasets.remove("u").await.unwrap();
    assert!(store.open("u").await.is_err());
}

#[tokio::test]
async fn staged_rows_belong_to_a_job_and_are_no_dataset() {
    let store = store();
    let job = JobId::now_v7();
    let mut writer = store
        .datasets
        .stage(job, numbers(0..1).schema())
        .await
        .unwrap();
    writer.write(numbers(0..9)).await.unwrap();
    writer.commit().await.unwrap();
    let staged = store.datasets.open_staged(job).await.unwrap();
    assert_eq!(count(&staged).await, (0..9).collect::<Vec<_>>());
    assert!(store.datasets.list().await.unwrap().is_empty());
    store.datasets.remove_staged(job).await.unwrap();
    assert!(store.datasets.open_staged(job).await.is_err());
    assert!(store.files().is_empty());
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_everything_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(place.path())
        .output();
    if !mounted.as_ref().is_ok_and(|done| done.status.success()) {
        eprintln!("passed over: a small tmpfs cannot be mounted here ({mounted:?})");
        return;
    }
    let told = async {
        let url = place.path().to_str().unwrap();
        let datasets = Datasets::new(Objects::open(url).unwrap(), 0);
        let begun = datasets
            .write("t", numbers(0..1).schema(), WriteMode::Error)
            .await;
        let mut writer = begun.unwrap();
        writer.write(numbers(0..1_000)).await.unwrap();
        writer.commit().await.unwrap();

        let mut writer = datasets
            .write("t", numbers(0..1).schema(), WriteMode::Append)
            .await
            .unwrap();
        let mut random = 1_u64;
        let mut outcome = Ok(0);
        for _ in 0..64 {
            let noise: Vec<i64> = (0..65_536)
                .map(|_| {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (random ^ (random >> 29)) as i64
                })
                .collect();
            let column: ArrayRef = Arc::new(Int64Array::from(noise));
            outcome = writer
                .write(RecordBatch::try_from_iter([("n", column)]).unwrap())
                .await;
            if outcome.is_err() {
                break;
            }
        }
        let full = matches!(outcome, Err(CatalogError::StoreFull { .. }));
        drop(writer);
        datasets.settled().await;
        let before = datasets
            .open(&DatasetReference::parse("t").unwrap())
            .await
            .unwrap();
        let rows = (before.version, count(&before).await.len());
        // With the broken upload's files gone there is room again.
        let mut writer = datasets
            .write("t", numbers(0..1).schema(), WriteMode::Append)
            .await
            .unwrap();
        writer.write(numbers(0..1_000)).await.unwrap();
        let after = writer.commit().await.unwrap();
        (full, format!("{outcome:?}"), rows, after.version)
    };
    let (full, outcome, rows, after) = told.await;
    let unmounted = std::process::Command::new("umount")
        .arg(place.path())
        .status();
    assert!(unmounted.unwrap().success());
    assert!(full, "{outcome}");
    assert_eq!((rows, after), ((0, 1_000), 1));
}

#[tokio::test]
async fn a_dataset_that_cannot_be_opened_hides_no_other() {
    let store = store();
    let mode = WriteMode::Error;
    store.put("broken", mode, &[numbers(0..3)]).await.unwrap();
    store.put("whole", mode, &[numbers(0..3)]).await.unwrap();
    let refused = store.put("_delta_log", mode, &[numbers(0..3)]).await;
    assert!(matches!(refused, Err(CatalogError::BadName { .. })));
    let log = Path::from("datasets/broken/_delta_log/00000000000000000000.json");
    let junk = bytes::Bytes::from_static(b"{\n");
    store.datasets.objects.put(&log, junk).await.unwrap();
    let listed = store.datasets.list().await.unwrap();
    let names: Vec<&str> = listed.iter().map(|dataset| dataset.name.as_str()).collect();
    assert_eq!(names, ["whole"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_opened_while_it_is_removed_is_there_or_is_not() {
    let store = Arc::new(store());
    let writer = Arc::clone(&store);
    let changes = tokio::spawn(async move {
        for _ in 0..20 {
            for _ in 0..3 {
                writer
                    .put("census", WriteMode::Append, &[numbers(0..3)])
                    .await
                    .unwrap();
            }
            writer.datasets.remove("census").await.unwrap();
        }
    });
    while !changes.is_finished() {
        match store.open("census").await {
            Ok(_) | Err(CatalogError::UnknownDataset { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    changes.await.unwrap();
}

#[tokio::test]
async fn rows_that_are_read_a_third_time_do_not_come_from_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let objects = Objects::open(directory.path().to_str().unwrap()).unwrap();
    let store = Store {
        datasets: Datasets::new(objects, 1 << 20),
        directory,
    };
    let batches = [numbers(0..1_000), numbers(1_000..2_000)];
    let dataset = store.put("t", WriteMode::Error, &batches).await.unwrap();
    let read = async || -> Vec<RecordBatch> {
        let rows = dataset.serve(Arc::clone(&dataset.schema), 0..usize::MAX);
        rows.map(Result::unwrap).collect().await
    };
    let first = read().await;
    assert_eq!(read().await, first);
    for file in store.files() {
        if file.extension().is_some_and(|kind| kind == "parquet") {
            std::fs::remove_file(file).unwrap();
        }
    }
    assert_eq!(read().await, first);
    // A scan for one reader alone goes to the files, and so do columns that nobody has read before.
    assert!(dataset.scan(None).next().await.unwrap().is_err());
    let field = dataset.schema.field(0).clone();
    let other = Arc::new(Schema::new(vec![field.with_data_type(DataType::Int32)]));
    let mut unread = dataset.serve(other, 0..usize::MAX);
    assert!(unread.next().await.unwrap().is_err());
}

#[tokio::test]
async fn a_version_is_opened_once_from_its_log_until_another_takes_its_name() {
    let store = store();
    let rows = |number| numbers(number..number + 3);
    store.put("t", WriteMode::Error, &[rows(0)]).await.unwrap();
    let first = store.open("t@0").await.unwrap();

    // The entry of the same time and size, which nobody could read.
    let entry = store
        .directory
        .path()
        .join("datasets/t/_delta_log/00000000000000000000.json");
    let known = std::fs::metadata(&entry).unwrap();
    let whole = std::fs::read(&entry).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&entry)
        .unwrap();
    std::io::Write::write_all(&mut &file, &vec![b'?'; whole.len()]).unwrap();
    file.set_modified(known.modified().unwrap()).unwrap();
    for reference in ["t@0", "t"] {
        assert_eq!(
            store.open(reference).await.unwrap().files.len(),
            first.files.len()
        );
    }
    std::fs::write(&entry, whole).unwrap();

    store.datasets.remove("t").await.unwrap();
    assert!(store.open("t@0").await.is_err());
    store.put("t", WriteMode::Error, &[rows(7)]).await.unwrap();
    assert_eq!(count(&store.open("t@0").await.unwrap()).await, [7, 8, 9]);
}
