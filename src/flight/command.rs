//! What a descriptor, a ticket or an action asks for, as closed enums.
//!
//! Decoding never panics and never guesses: what is not known is refused with what came and what is expected.

use arrow_flight::sql;
use bytes::Bytes;
use prost::{Message, Name};

use super::error::FlightError;
use super::proto::v1::{self, peer};
use super::proto::{Form, Packed, pack};

const EXPECTED: &str = "a google.protobuf.Any of a volary.v1 or Flight SQL message, or JSON such as \
                        {\"@type\": \"volary.v1.Query\", \"sql\": \"SELECT 1\"}";

/// Flight SQL's messages begin with this.
const SQL_PACKAGE: &str = "arrow.flight.protocol.sql.";

/// What a descriptor or an unsigned ticket asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Put(v1::Put),
    PutPart(v1::PutPart),
    Read(v1::Read),
    Query(v1::Query),
    Predict(v1::Predict),
    Train(Box<v1::Train>),
    Score(v1::Score),
    JobHandle(v1::JobHandle),
    StartWorker(peer::StartWorker),
    OpenGradientStream(peer::OpenGradientStream),
    ListWithdrawn(peer::ListWithdrawn),
    Sql(Box<sql::Command>),
}

impl Command {
    /// Reads a command in either form and says which form it was.
    pub fn decode(bytes: &Bytes) -> Result<(Self, Form), FlightError> {
        let packed = Packed::open(bytes, EXPECTED)?;
        let command = Self::read(&packed)?.ok_or_else(|| FlightError::NotACommand {
            received: format!("message {:?}", truncated(&packed.name)),
            expected: EXPECTED.to_owned(),
        })?;
        Ok((command, packed.form))
    }

    fn read(packed: &Packed) -> Result<Option<Self>, FlightError> {
        Ok(Some(if packed.is::<v1::Put>() {
            Self::Put(packed.read()?)
        } else if packed.is::<v1::PutPart>() {
            Self::PutPart(packed.read()?)
        } else if packed.is::<v1::Read>() {
            Self::Read(packed.read()?)
        } else if packed.is::<v1::Query>() {
            Self::Query(packed.read()?)
        } else if packed.is::<v1::Predict>() {
            Self::Predict(packed.read()?)
        } else if packed.is::<v1::Train>() {
            Self::Train(Box::new(packed.read()?))
        } else if packed.is::<v1::Score>() {
            Self::Score(packed.read()?)
        } else if packed.is::<v1::JobHandle>() {
            Self::JobHandle(packed.read()?)
        } else if packed.is::<peer::StartWorker>() {
            Self::StartWorker(packed.read()?)
        } else if packed.is::<peer::OpenGradientStream>() {
            Self::OpenGradientStream(packed.read()?)
        } else if packed.is::<peer::ListWithdrawn>() {
            Self::ListWithdrawn(packed.read()?)
        } else if packed.name.starts_with(SQL_PACKAGE) {
            return Ok(sql_command(packed)?.map(|command| Self::Sql(Box::new(command))));
        } else {
            return Ok(None);
        }))
    }

    /// The command in the form asked for.
    pub fn encode(&self, form: Form) -> Bytes {
        match self {
            Self::Put(message) => pack(message, form),
            Self::PutPart(message) => pack(message, form),
            Self::Read(message) => pack(message, form),
            Self::Query(message) => pack(message, form),
            Self::Predict(message) => pack(message, form),
            Self::Train(message) => pack(message.as_ref(), form),
            Self::Score(message) => pack(message, form),
            Self::JobHandle(message) => pack(message, form),
            Self::StartWorker(message) => pack(message, form),
            Self::OpenGradientStream(message) => pack(message, form),
            Self::ListWithdrawn(message) => pack(message, form),
            Self::Sql(command) => command.as_ref().clone().into_any().encode_to_vec().into(),
        }
    }

    /// The message's short name, for errors and logs.
    pub fn name(&self) -> &str {
        match self {
            Self::Put(_) => v1::Put::NAME,
            Self::PutPart(_) => v1::PutPart::NAME,
            Self::Read(_) => v1::Read::NAME,
            Self::Query(_) => v1::Query::NAME,
            Self::Predict(_) => v1::Predict::NAME,
            Self::Train(_) => v1::Train::NAME,
            Self::Score(_) => v1::Score::NAME,
            Self::JobHandle(_) => v1::JobHandle::NAME,
            Self::StartWorker(_) => peer::StartWorker::NAME,
            Self::OpenGradientStream(_) => peer::OpenGradientStream::NAME,
            Self::ListWithdrawn(_) => peer::ListWithdrawn::NAME,
            Self::Sql(command) => {
                let url = command.type_url();
                url.rsplit_once('.').map_or(url, |(_, name)| name)
            }
        }
    }
}

/// A Flight SQL message; `None` when Flight SQL has none of that name.
pub fn sql_command(packed: &Packed) -> Result<Option<sql::Command>, FlightError> {
    let any = sql::Any {
        type_url: format!("type.googleapis.com/{}", packed.name),
        value: packed.to_protobuf()?,
    };
    match sql::Command::try_from(any) {
        Ok(sql::Command::Unknown(_)) => Ok(None),
        Ok(command) => Ok(Some(command)),
        Err(error) => Err(FlightError::BadCommand {
            message: packed.name.clone(),
            reason: error.to_string(),
        }),
    }
}

macro_rules! actions {
    ($($(#[doc = $doc:literal])+ $kind:ident ($request:literal => $answer:literal),)+) => {
        /// Every action of DoAction. The name of the action is the name of the variant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ActionKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl ActionKind {
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// The action's type on the wire.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)+
                }
            }

            /// Full name of the message its body holds.
            pub fn request(self) -> &'static str {
                match self {
                    $(Self::$kind => $request,)+
                }
            }

            /// Full name of the message it answers.
            pub fn answer(self) -> &'static str {
                match self {
                    $(Self::$kind => $answer,)+
                }
            }

            /// What it does, and what it takes and answers.
            pub fn description(self) -> String {
                match self {
                    $(Self::$kind => {
                        let text = [$($doc.trim(),)+].join(" ");
                        format!("{text} Body: {}. Answer: {}.", $request, $answer)
                    })+
                }
            }
        }
    };
}

actions! {
    /// Starts training a model on all servers.
    Train("volary.v1.Train" => "volary.v1.Job"),
    /// Starts writing a model's answers for a source into a new dataset.
    Score("volary.v1.Score" => "volary.v1.Job"),
    /// Loss and metrics of a model over rows that have its label.
    Evaluate("volary.v1.Evaluate" => "volary.v1.Evaluation"),
    /// Every job of the cluster, newest first.
    ListJobs("volary.v1.ListJobs" => "stream of volary.v1.Job"),
    /// A job as it stands.
    JobStatus("volary.v1.JobStatus" => "volary.v1.Job"),
    /// A job whenever it changes, until it has ended.
    WatchJob("volary.v1.WatchJob" => "stream of volary.v1.Job"),
    /// Asks a job to stop.
    CancelJob("volary.v1.CancelJob" => "volary.v1.Job"),
    /// Goes on with a training job that has ended, from one of its checkpoints.
    Resume("volary.v1.Resume" => "volary.v1.Job"),
    /// Removes the checkpoints of a job that has ended.
    DropCheckpoints("volary.v1.DropCheckpoints" => "volary.v1.Done"),
    /// Every dataset at its newest version.
    ListDatasets("volary.v1.ListDatasets" => "stream of volary.v1.Dataset"),
    /// Removes a dataset with all its versions.
    DropDataset("volary.v1.DropDataset" => "volary.v1.Done"),
    /// Begins an upload in parts.
    BeginUpload("volary.v1.BeginUpload" => "volary.v1.Upload"),
    /// Makes the parts of an upload visible at once, as one version.
    CommitUpload("volary.v1.CommitUpload" => "volary.v1.Dataset"),
    /// Gives an upload in parts up and removes what it holds.
    AbortUpload("volary.v1.AbortUpload" => "volary.v1.Done"),
    /// An upload in parts as it stands, with every finished attempt of every part.
    DescribeUpload("volary.v1.DescribeUpload" => "volary.v1.Upload"),
    /// Every upload in parts that is open, without its parts.
    ListUploads("volary.v1.ListUploads" => "stream of volary.v1.Upload"),
    /// Every model at its newest version.
    ListModels("volary.v1.ListModels" => "stream of volary.v1.Model"),
    /// A model version with its network and pipeline.
    DescribeModel("volary.v1.DescribeModel" => "volary.v1.Model"),
    /// Removes a model with all its versions.
    DropModel("volary.v1.DropModel" => "volary.v1.Done"),
    /// Every server of the cluster.
    ListMembers("volary.v1.ListMembers" => "stream of volary.v1.Member"),
    /// Flight: stops what a flight stands for, a job or the reading of its tickets, on every server.
    CancelFlightInfo(
        "arrow.flight.protocol.CancelFlightInfoRequest"
            => "arrow.flight.protocol.CancelFlightInfoResult"
    ),
    /// Flight: the same endpoint with a ticket that expires later.
    RenewFlightEndpoint(
        "arrow.flight.protocol.RenewFlightEndpointRequest" => "arrow.flight.protocol.FlightEndpoint"
    ),
    /// Flight: sets options of the client's session, which its cookie carries: catalog, schema, compression,
    /// dictionaries.
    SetSessionOptions(
        "arrow.flight.protocol.SetSessionOptionsRequest"
            => "arrow.flight.protocol.SetSessionOptionsResult"
    ),
    /// Flight: the options of the client's session.
    GetSessionOptions(
        "arrow.flight.protocol.GetSessionOptionsRequest"
            => "arrow.flight.protocol.GetSessionOptionsResult"
    ),
    /// Flight: ends the client's session.
    CloseSession(
        "arrow.flight.protocol.CloseSessionRequest" => "arrow.flight.protocol.CloseSessionResult"
    ),
    /// Flight SQL: stops a query, as CancelFlightInfo does.
    CancelQuery(
        "arrow.flight.protocol.sql.ActionCancelQueryRequest"
            => "arrow.flight.protocol.sql.ActionCancelQueryResult"
    ),
    /// Flight SQL: prepares a statement.
    CreatePreparedStatement(
        "arrow.flight.protocol.sql.ActionCreatePreparedStatementRequest"
            => "arrow.flight.protocol.sql.ActionCreatePreparedStatementResult"
    ),
    /// Flight SQL: forgets a prepared statement.
    ClosePreparedStatement(
        "arrow.flight.protocol.sql.ActionClosePreparedStatementRequest" => "nothing"
    ),
}

impl ActionKind {
    /// Reads an action's type: `Train`, or `volary.v1.Train`.
    pub fn parse(text: &str) -> Result<Self, FlightError> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| text == kind.name() || text == kind.request())
            .ok_or_else(|| FlightError::UnknownAction {
                received: truncated(text),
                known: Self::ALL
                    .iter()
                    .map(|kind| kind.name())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// Whether the standard sends body and answer without an `Any` around them: Flight's own actions, but not Flight SQL's.
    fn is_bare(self) -> bool {
        matches!(
            self,
            Self::CancelFlightInfo
                | Self::RenewFlightEndpoint
                | Self::SetSessionOptions
                | Self::GetSessionOptions
                | Self::CloseSession
        )
    }

    /// Opens an action's body, which may leave its type out and must not state another one.
    pub fn open(self, body: &Bytes) -> Result<Packed, FlightError> {
        if self.is_bare() {
            return Packed::open_bare(body, self.request());
        }
        let packed = Packed::open_named(body, self.request(), self.request())?;
        if packed.name != self.request() {
            return Err(FlightError::WrongCommand {
                verb: self.name(),
                received: truncated(&packed.name),
                expected: self.request(),
            });
        }
        Ok(packed)
    }
}

fn truncated(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::proto::{object_of, struct_of};

    fn commands() -> Vec<Command> {
        let source = Some(v1::Source {
            rows: Some(v1::source::Rows::Table("census@3".to_owned())),
        });
        vec![
            Command::Put(v1::Put {
                dataset: "census".to_owned(),
                mode: v1::put::Mode::Append.into(),
            }),
            Command::PutPart(v1::PutPart {
                upload: "x".to_owned(),
                part: "17".to_owned(),
                attempt: 2,
            }),
            Command::Read(v1::Read {
                dataset: "census@3".to_owned(),
                endpoints: 4,
                columns: vec!["age".to_owned()],
            }),
            Command::Query(v1::Query {
                sql: "SELECT 'é' FROM t".to_owned(),
            }),
            Command::Predict(v1::Predict {
                model: "churn".to_owned(),
                version: u64::MAX,
                keep: vec!["id".to_owned()],
            }),
            Command::Train(Box::new(v1::Train {
                name: "churn".to_owned(),
                source: source.clone(),
                label: "income".to_owned(),
                pipeline: vec![struct_of(
                    &serde_json::json!({"transform": "clip", "columns": ["age"], "minimum": -0.5, "maximum": 9}),
                )],
                model: Some(struct_of(
                    &serde_json::json!({"layers": [{"units": 64}], "x": null}),
                )),
                shuffle: Some(false),
                class_weight: [("yes".to_owned(), 2.5)].into(),
                validation: Some(v1::train::Validation::ValidationSplit(0.1)),
                early_stopping: Some(v1::EarlyStopping {
                    patience: 3,
                    ..Default::default()
                }),
                reduce_on_plateau: Some(v1::ReduceOnPlateau {
                    factor: Some(0.5),
                    patience: Some(0),
                    cooldown: 2,
                    ..Default::default()
                }),
                ..Default::default()
            })),
            Command::Score(v1::Score {
                model: "churn".to_owned(),
                source,
                into: "scored".to_owned(),
                ..Default::default()
            }),
            Command::JobHandle(v1::JobHandle { id: "x".to_owned() }),
            Command::StartWorker(peer::StartWorker {
                plan: Bytes::from_static(b"\0\xff"),
                ..Default::default()
            }),
            Command::OpenGradientStream(peer::OpenGradientStream {
                to_worker: 2,
                ..Default::default()
            }),
            Command::ListWithdrawn(peer::ListWithdrawn {
                address: "localhost:1".to_owned(),
            }),
        ]
    }

    #[test]
    fn every_command_comes_back_from_both_forms() {
        for command in commands() {
            for form in [Form::Any, Form::Json] {
                let (back, seen) = Command::decode(&command.encode(form)).unwrap();
                assert_eq!((back, seen), (command.clone(), form));
            }
        }
    }

    #[test]
    fn flight_sql_commands_are_known_by_their_type() {
        let command = Command::Sql(Box::new(sql::Command::CommandStatementQuery(
            sql::CommandStatementQuery {
                query: "SELECT 1".to_owned(),
                transaction_id: None,
            },
        )));
        let (back, _) = Command::decode(&command.encode(Form::Any)).unwrap();
        assert_eq!(back, command);
        assert_eq!(back.name(), "CommandStatementQuery");
    }

    #[test]
    fn json_may_name_its_type_with_or_without_a_host() {
        for kind in [
            "volary.v1.Put",
            "type.googleapis.com/volary.v1.Put",
            "/volary.v1.Put",
        ] {
            let json = format!(r#" {{"dataset": "a", "mode": "OVERWRITE", "@type": "{kind}"}}"#);
            let (command, form) = Command::decode(&json.into()).unwrap();
            let expected = v1::Put {
                dataset: "a".to_owned(),
                mode: 2,
            };
            assert_eq!((command, form), (Command::Put(expected), Form::Json));
        }
    }

    #[test]
    fn a_json_field_that_cannot_be_read_is_named_with_what_it_may_hold() {
        let cases = [
            (
                r#""epochs": -1"#,
                "field \"epochs\" is -1; give a whole number from 0 to 4294967295",
            ),
            (
                r#""batchSize": 4294967296"#,
                "field \"batchSize\" is 4294967296; give a whole number from 0",
            ),
            (r#""epochs": 1.5"#, "field \"epochs\" is 1.5; give"),
            (
                r#""seed": "18446744073709551616""#,
                "field \"seed\" is \"18446744073709551616\"; give a whole number from 0 to 18446744073709551615",
            ),
            (r#""label": 3"#, "field \"label\" is 3: "),
            (
                r#""early_stopping": {"patience": -2}"#,
                "field \"early_stopping\": field \"patience\" is -2; give",
            ),
            (r#""epoch": 3"#, "'epoch'"),
        ];
        for (field, expected) in cases {
            let json = format!(r#"{{"@type": "volary.v1.Train", "name": "a", {field}}}"#);
            let error = Command::decode(&json.into()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("out of range integral"), "{error}");
        }
    }

    #[test]
    fn a_loss_or_metric_with_options_is_an_object_in_json_and_its_text_in_protobuf() {
        let json = r#"{"@type": "volary.v1.Train", "loss": {"name": "huber", "delta": 2},
            "metrics": ["mae", {"name": "precision", "thresholds": 0.3}],
            "outputs": [{"name": "a", "loss": {"name": "huber"}, "lossWeight": 0.5, "metrics": [{"name": "mae"}]}]}"#;
        let Ok((Command::Train(train), _)) = Command::decode(&json.into()) else {
            panic!("it is a Train")
        };
        assert_eq!(train.loss, r#"{"delta":2,"name":"huber"}"#);
        let output = &train.outputs[0];
        assert_eq!(output.loss, r#"{"name":"huber"}"#);
        assert_eq!(output.metrics, [r#"{"name":"mae"}"#]);
        assert_eq!(output.loss_weight, Some(0.5));
        assert_eq!(
            train.metrics,
            ["mae", r#"{"name":"precision","thresholds":0.3}"#]
        );
        let json = r#"{"@type": "volary.v1.Train", "label": {"name": "huber"}}"#;
        let error = Command::decode(&json.into()).unwrap_err().to_string();
        assert!(error.contains("field \"label\""), "{error}");
    }

    #[test]
    fn json_begins_after_any_white_space() {
        let json =
            Bytes::from_static(b"\n\n  {\"@type\": \"volary.v1.Query\", \"sql\": \"SELECT 1\"}");
        assert!(matches!(
            Command::decode(&json),
            Ok((Command::Query(_), Form::Json))
        ));
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let json = Bytes::from_static(br#"{"@type": "volary.v1.Put", "datset": "a"}"#);
        let error = Command::decode(&json).unwrap_err().to_string();
        assert!(
            error.contains("datset") && error.contains("volary.v1.Put"),
            "{error}"
        );
    }

    #[test]
    fn garbage_is_refused_with_what_came_and_what_is_expected() {
        for garbage in [
            &b""[..],
            b"\xff\xfe",
            b"SELECT 1",
            b"{",
            b"[]",
            b"{\"@type\": 3}",
            b"{}",
        ] {
            let error = Command::decode(&Bytes::from_static(garbage)).unwrap_err();
            assert!(
                matches!(
                    error,
                    FlightError::NotACommand { .. } | FlightError::BadCommand { .. }
                ),
                "{error}"
            );
        }
        let long = Bytes::from(vec![b'x'; 10_000]);
        let error = Command::decode(&long).unwrap_err().to_string();
        assert!(
            error.len() < 500 && error.contains("xxx...") && error.contains("Any"),
            "{error}"
        );
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        println!("seed {state:#x}");
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let good: Vec<Bytes> = commands()
            .iter()
            .flat_map(|command| [command.encode(Form::Any), command.encode(Form::Json)])
            .collect();
        for round in 0..20_000 {
            let bytes: Vec<u8> = if round % 2 == 0 {
                (0..random() % 64).map(|_| random() as u8).collect()
            } else {
                let mut bytes = good[random() as usize % good.len()].to_vec();
                for _ in 0..=random() % 4 {
                    let at = random() as usize % bytes.len();
                    bytes[at] = random() as u8;
                }
                bytes
            };
            let _ = Command::decode(&bytes.into());
        }
    }

    #[test]
    fn whole_numbers_of_a_struct_come_back_as_integers() {
        let value = serde_json::json!({"units": 64, "rate": 0.001, "list": [1, "a", null, true, {"b": {}}]});
        assert_eq!(object_of(struct_of(&value)), value);
    }

    #[test]
    fn an_action_takes_its_own_message_alone() {
        let put = pack(&v1::Put::default(), Form::Any);
        assert!(ActionKind::ListJobs.open(&put).is_err());
        assert_eq!(
            ActionKind::ListJobs.open(&Bytes::new()).unwrap().form,
            Form::Json
        );
        let status = ActionKind::JobStatus
            .open(&Bytes::from_static(br#"{"id": "7"}"#))
            .unwrap()
            .read::<v1::JobStatus>()
            .unwrap();
        assert_eq!(status.id, "7");
        for kind in ActionKind::ALL {
            assert_eq!(ActionKind::parse(kind.name()).unwrap(), *kind);
            assert_eq!(ActionKind::parse(kind.request()).unwrap(), *kind);
        }
    }

    #[test]
    fn an_answer_in_json_has_every_field_by_its_own_name() {
        let job = v1::Job {
            id: "a".to_owned(),
            rows_per_second: 1.5,
            step: 9_007_199_254_740_993,
            ..Default::default()
        };
        let json: serde_json::Value = serde_json::from_slice(&pack(&job, Form::Json)).unwrap();
        assert_eq!(json["@type"], "type.googleapis.com/volary.v1.Job");
        assert_eq!(json["rows_per_second"], 1.5);
        assert_eq!(json["step"], 9_007_199_254_740_993_u64);
        assert_eq!(json["progress"], 0.0);
        assert_eq!(json["state"], "STATE_UNSPECIFIED");
    }
}
