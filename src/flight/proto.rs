//! The generated messages, their descriptors, and the two forms every message has: protobuf in an `Any`, and JSON.
//!
//! Knows no command's meaning.

use std::sync::LazyLock;

use bytes::Bytes;
use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind as FieldKind,
    MessageDescriptor, SerializeOptions,
};
use serde_json::{Map, Value};

use super::error::FlightError;

/// Messages of `flight-protos/volary/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod v1 {
    include!("generated/volary.v1.rs");

    pub mod peer {
        include!("generated/volary.v1.peer.rs");
    }
}

/// Messages of Arrow Flight that the arrow-flight crate does not have: sessions.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod session {
    include!("generated/arrow.flight.protocol.rs");
}

/// Every file the port speaks, for reflection and the JSON mapping.
pub(super) const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS).expect("the committed descriptors are readable")
});

/// How many bytes of an unreadable command its error repeats.
const SHOWN_BYTES_MAX: usize = 80;

/// The form in which a command came and its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `google.protobuf.Any`.
    Any,
    /// The proto3 JSON mapping with `@type`; answers have every field, snake_case, 64-bit integers as numbers.
    Json,
}

/// A message that has been taken out of its wrapping but not yet read.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Full name, `volary.v1.Put`.
    pub name: String,
    pub form: Form,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Protobuf(Bytes),
    Json(Map<String, Value>),
}

impl Packed {
    /// Opens `bytes`, which must say what they are. `expected` is for the error.
    pub fn open(bytes: &Bytes, expected: &str) -> Result<Self, FlightError> {
        Self::open_as(bytes, None, expected)
    }

    /// Opens `bytes` as `name` when JSON does not say `@type`; no bytes at all are that message without fields.
    pub fn open_named(bytes: &Bytes, name: &str, expected: &str) -> Result<Self, FlightError> {
        Self::open_as(bytes, Some(name), expected)
    }

    /// Opens `bytes` as the message `name` with nothing around it, or its JSON.
    pub fn open_bare(bytes: &Bytes, name: &str) -> Result<Self, FlightError> {
        // No message that is read here begins with a brace: it would be the start of a group.
        if bytes.first() == Some(&b'{') {
            return Self::open_named(bytes, name, name);
        }
        Ok(Self {
            name: name.to_owned(),
            form: Form::Any,
            content: Content::Protobuf(bytes.clone()),
        })
    }

    fn open_as(bytes: &Bytes, name: Option<&str>, expected: &str) -> Result<Self, FlightError> {
        if let (true, Some(name)) = (bytes.is_empty(), name) {
            return Ok(Self {
                name: name.to_owned(),
                form: Form::Json,
                content: Content::Json(Map::new()),
            });
        }
        let not_a_command = || FlightError::NotACommand {
            received: shown(bytes),
            expected: expected.to_owned(),
        };
        // 0x0a opens an Any's type_url, and is a newline to JSON: so an Any is tried first unless a brace comes first.
        if bytes.first() != Some(&b'{') {
            if let Ok(any) = prost_types::Any::decode(bytes.clone())
                && let Some((_, name)) = any.type_url.rsplit_once('/')
                && !name.is_empty()
            {
                return Ok(Self {
                    name: name.to_owned(),
                    form: Form::Any,
                    content: Content::Protobuf(any.value.into()),
                });
            }
            if bytes.trim_ascii_start().first() != Some(&b'{') {
                return Err(not_a_command());
            }
        }
        let mut fields: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| FlightError::BadCommand {
                message: format!("JSON {}", shown(bytes)),
                reason: error.to_string(),
            })?;
        let stated = match fields.remove("@type") {
            Some(Value::String(url)) => Some(
                url.rsplit_once('/')
                    .map_or(url.as_str(), |(_, name)| name)
                    .to_owned(),
            ),
            Some(_) => return Err(not_a_command()),
            None => None,
        };
        let name = match (stated, name) {
            (Some(stated), _) => stated,
            (None, Some(name)) => name.to_owned(),
            (None, None) => return Err(not_a_command()),
        };
        Ok(Self {
            name,
            form: Form::Json,
            content: Content::Json(fields),
        })
    }

    /// Whether this is an `M`.
    pub fn is<M: Name>(&self) -> bool {
        self.name == M::full_name()
    }

    /// Reads the message; a JSON field that `M` does not have is refused by name.
    pub fn read<M: Message + Name + Default>(&self) -> Result<M, FlightError> {
        let bad = |reason: String| FlightError::BadCommand {
            message: self.name.clone(),
            reason,
        };
        match &self.content {
            Content::Protobuf(bytes) => {
                M::decode(bytes.clone()).map_err(|error| bad(error.to_string()))
            }
            Content::Json(fields) => {
                let descriptor = POOL
                    .get_message_by_name(&M::full_name())
                    .ok_or_else(|| bad("its descriptor is missing".to_owned()))?;
                let dynamic = dynamic_of(&descriptor, fields).map_err(bad)?;
                dynamic
                    .transcode_to::<M>()
                    .map_err(|error| bad(error.to_string()))
            }
        }
    }

    /// Reads a message of Arrow's, whose names arrow-flight's types do not know themselves.
    pub fn read_named<M: Message + Default>(&self) -> Result<M, FlightError> {
        M::decode(self.to_protobuf()?).map_err(|error| FlightError::BadCommand {
            message: self.name.clone(),
            reason: error.to_string(),
        })
    }

    /// The message read by Flight SQL's own names, JSON included.
    pub fn to_protobuf(&self) -> Result<Bytes, FlightError> {
        match &self.content {
            Content::Protobuf(bytes) => Ok(bytes.clone()),
            Content::Json(fields) => {
                let bad = |reason: String| FlightError::BadCommand {
                    message: self.name.clone(),
                    reason,
                };
                let descriptor = POOL
                    .get_message_by_name(&self.name)
                    .ok_or_else(|| bad("there is no such message".to_owned()))?;
                let dynamic = dynamic_of(&descriptor, fields).map_err(bad)?;
                Ok(dynamic.encode_to_vec().into())
            }
        }
    }
}

/// Reads a message's JSON; what is wrong is said with the name of the field.
fn dynamic_of(
    descriptor: &MessageDescriptor,
    fields: &Map<String, Value>,
) -> Result<DynamicMessage, String> {
    let read = |mut fields: Map<String, Value>| {
        described_in_text(descriptor.full_name(), &mut fields);
        DynamicMessage::deserialize_with_options(
            descriptor.clone(),
            Value::Object(fields),
            &DeserializeOptions::new().deny_unknown_fields(true),
        )
    };
    let error = match read(fields.clone()) {
        Ok(message) => return Ok(message),
        Err(error) => error,
    };
    // The reader does not say where it stopped: the first field that cannot be read alone is the one.
    let culprit = fields.iter().find_map(|(name, value)| {
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        let reason = read(alone).err()?.to_string();
        let field = descriptor
            .get_field_by_json_name(name)
            .or_else(|| descriptor.get_field_by_name(name))?;
        if let (FieldKind::Message(nested), Value::Object(inner)) = (field.kind(), value)
            && !field.is_map()
            && !nested.full_name().starts_with("google.protobuf.")
        {
            let inside = dynamic_of(&nested, inner).err()?;
            return Some(format!("field {name:?}: {inside}"));
        }
        let shown = shown_value(value);
        Some(match whole_numbers(&field) {
            Some(range) => format!("field {name:?} is {shown}; give a whole number {range}"),
            None => format!("field {name:?} is {shown}: {reason}"),
        })
    });
    Err(culprit.unwrap_or_else(|| error.to_string()))
}

/// Fields that hold a name, or the JSON text of an object with a name and options.
const DESCRIPTIONS: [(&str, &str); 5] = [
    ("volary.v1.Train", "loss"),
    ("volary.v1.Train", "metrics"),
    ("volary.v1.TrainOutput", "loss"),
    ("volary.v1.TrainOutput", "metrics"),
    ("volary.v1.Evaluate", "metrics"),
];

/// In a message's JSON such an object stands as it is; here it becomes its text.
fn described_in_text(name: &str, fields: &mut Map<String, Value>) {
    if let ("volary.v1.Train", Some(Value::Array(outputs))) = (name, fields.get_mut("outputs")) {
        for output in outputs.iter_mut().filter_map(Value::as_object_mut) {
            described_in_text("volary.v1.TrainOutput", output);
        }
    }
    for (message, field) in DESCRIPTIONS {
        let Some(value) = fields.get_mut(field).filter(|_| name == message) else {
            continue;
        };
        let each = match value {
            Value::Array(values) => values.as_mut_slice(),
            value => std::slice::from_mut(value),
        };
        for value in each.iter_mut().filter(|value| value.is_object()) {
            *value = Value::String(value.to_string());
        }
    }
}

/// What a field of one whole number may hold.
fn whole_numbers(field: &FieldDescriptor) -> Option<&'static str> {
    if field.is_list() || field.is_map() {
        return None;
    }
    match field.kind() {
        FieldKind::Uint32 | FieldKind::Fixed32 => Some("from 0 to 4294967295"),
        FieldKind::Uint64 | FieldKind::Fixed64 => Some("from 0 to 18446744073709551615"),
        FieldKind::Int32 | FieldKind::Sint32 | FieldKind::Sfixed32 => {
            Some("from -2147483648 to 2147483647")
        }
        FieldKind::Int64 | FieldKind::Sint64 | FieldKind::Sfixed64 => {
            Some("from -9223372036854775808 to 9223372036854775807")
        }
        _ => None,
    }
}

/// The beginning of a JSON value, for an error's text.
fn shown_value(value: &Value) -> String {
    let text = value.to_string();
    let mut head: String = text.chars().take(SHOWN_BYTES_MAX).collect();
    if head.len() < text.len() {
        head.push_str("...");
    }
    head
}

/// The names of a message's fields, in snake_case.
pub fn field_names<M: Name>() -> Vec<String> {
    let descriptor = POOL.get_message_by_name(&M::full_name());
    descriptor.map_or_else(Vec::new, |descriptor| {
        let names = descriptor.fields().map(|field| field.name().to_owned());
        names.collect()
    })
}

/// Wraps `message` in the form asked for.
pub fn pack<M: Message + Name>(message: &M, form: Form) -> Bytes {
    match form {
        Form::Any => prost_types::Any {
            type_url: type_url::<M>(),
            value: message.encode_to_vec(),
        }
        .encode_to_vec()
        .into(),
        Form::Json => json_text(message).into(),
    }
}

/// `message`, which is called `name`, with nothing around it; or as JSON.
pub fn pack_bare<M: Message>(name: &str, message: &M, form: Form) -> Bytes {
    let bytes = message.encode_to_vec();
    match form {
        Form::Any => bytes.into(),
        Form::Json => {
            let mut object = Map::new();
            let url = format!("type.googleapis.com/{name}");
            object.insert("@type".to_owned(), Value::String(url));
            let dynamic = POOL
                .get_message_by_name(name)
                .and_then(|descriptor| DynamicMessage::decode(descriptor, &bytes[..]).ok());
            if let Some(Value::Object(fields)) = dynamic.and_then(|dynamic| fields_of(&dynamic)) {
                object.extend(fields);
            }
            Value::Object(object).to_string().into()
        }
    }
}

/// `type.googleapis.com/volary.v1.Put`.
pub fn type_url<M: Name>() -> String {
    format!("type.googleapis.com/{}", M::full_name())
}

fn json_text<M: Message + Name>(message: &M) -> String {
    let mut object = Map::new();
    object.insert("@type".to_owned(), Value::String(type_url::<M>()));
    if let Some(Value::Object(fields)) = json_fields(message) {
        object.extend(fields);
    }
    Value::Object(object).to_string()
}

fn json_fields<M: Message + Name>(message: &M) -> Option<Value> {
    let mut dynamic = DynamicMessage::new(POOL.get_message_by_name(&M::full_name())?);
    dynamic.transcode_from(message).ok()?;
    fields_of(&dynamic)
}

fn fields_of(message: &DynamicMessage) -> Option<Value> {
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(false);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .ok()
}

/// A `google.protobuf.Struct` as the JSON object it stands for; whole numbers become integers.
pub fn object_of(fields: prost_types::Struct) -> Value {
    Value::Object(
        fields
            .fields
            .into_iter()
            .map(|(name, value)| (name, value_of(value)))
            .collect(),
    )
}

fn value_of(value: prost_types::Value) -> Value {
    use prost_types::value::Kind;
    /// Whole numbers up to here are exact in a double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::StringValue(value)) => Value::String(value),
        #[allow(clippy::cast_possible_truncation)]
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() <= EXACT => {
            Value::from(value as i64)
        }
        Some(Kind::NumberValue(value)) => {
            serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
        }
        Some(Kind::ListValue(list)) => {
            Value::Array(list.values.into_iter().map(value_of).collect())
        }
        Some(Kind::StructValue(fields)) => object_of(fields),
    }
}

/// A JSON object as a `google.protobuf.Struct`; anything else becomes an empty one.
pub fn struct_of(value: &Value) -> prost_types::Struct {
    match value {
        Value::Object(fields) => prost_types::Struct {
            fields: fields
                .iter()
                .map(|(name, value)| (name.clone(), proto_value_of(value)))
                .collect(),
        },
        _ => prost_types::Struct::default(),
    }
}

fn proto_value_of(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    prost_types::Value {
        kind: Some(match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(value) => Kind::BoolValue(*value),
            Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
            Value::String(value) => Kind::StringValue(value.clone()),
            Value::Array(values) => Kind::ListValue(prost_types::ListValue {
                values: values.iter().map(proto_value_of).collect(),
            }),
            Value::Object(_) => Kind::StructValue(struct_of(value)),
        }),
    }
}

/// The first bytes of what came, escaped, for an error's text.
pub fn shown(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "an empty command".to_owned();
    }
    let head = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let rest = if bytes.len() > head.len() { "..." } else { "" };
    format!("\"{}{rest}\" ({} bytes)", head.escape_ascii(), bytes.len())
}
