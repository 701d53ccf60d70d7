//! From our errors to gRPC and back: the only place that makes or reads a code.
//!
//! The caller reads the error's own text; the log keeps the chain of sources of what is the server's fault.

use std::error::Error;

use tonic::{Code, Status};

use super::error::FlightError;
use crate::catalog::{CatalogError, JobError, UploadError};
use crate::features::FeatureError;
use crate::serving::ServingError;
use crate::support::fault::{Fault, Faulty};
use crate::training::TrainingError;

/// Longest error text in bytes. It travels in an HTTP/2 header, where clients allow 8 KiB in all.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The status a caller gets for `error`.
pub(super) fn status_of<E: Faulty + ?Sized>(error: &E) -> Status {
    let fault = error.fault();
    if fault == Fault::Internal {
        tracing::error!(error = %chain(error), "a request failed by the server's own fault");
    }
    Status::new(code_of(fault), shorten(&error.to_string()))
}

/// The gRPC code of each class of failure.
pub(super) fn code_of(fault: Fault) -> Code {
    match fault {
        Fault::InvalidArgument => Code::InvalidArgument,
        Fault::NotFound => Code::NotFound,
        Fault::AlreadyExists => Code::AlreadyExists,
        Fault::FailedPrecondition => Code::FailedPrecondition,
        Fault::ResourceExhausted => Code::ResourceExhausted,
        Fault::OutOfRange => Code::OutOfRange,
        Fault::Unimplemented => Code::Unimplemented,
        Fault::Unavailable => Code::Unavailable,
        Fault::Aborted => Code::Aborted,
        Fault::Cancelled => Code::Cancelled,
        Fault::Internal => Code::Internal,
    }
}

/// A code's name in metrics.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Unknown => "UNKNOWN",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::DataLoss => "DATA_LOSS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::Unauthenticated => "UNAUTHENTICATED",
        other => fault_of(other).name(),
    }
}

/// The class that a peer's status stands for. Codes we never send count as the server's fault.
pub(super) fn fault_of(code: Code) -> Fault {
    match code {
        Code::InvalidArgument => Fault::InvalidArgument,
        Code::NotFound => Fault::NotFound,
        Code::AlreadyExists => Fault::AlreadyExists,
        Code::FailedPrecondition => Fault::FailedPrecondition,
        Code::ResourceExhausted => Fault::ResourceExhausted,
        Code::OutOfRange => Fault::OutOfRange,
        Code::Unimplemented => Fault::Unimplemented,
        Code::Unavailable | Code::DeadlineExceeded => Fault::Unavailable,
        Code::Aborted => Fault::Aborted,
        Code::Cancelled => Fault::Cancelled,
        Code::Ok
        | Code::Unknown
        | Code::Internal
        | Code::DataLoss
        | Code::PermissionDenied
        | Code::Unauthenticated => Fault::Internal,
    }
}

/// The status of a job that failed: its code by name, its text.
pub(super) fn status_of_job(error: &JobError) -> Status {
    let code = FAULTS
        .into_iter()
        .find(|fault| fault.name() == error.code)
        .map_or(Code::Internal, code_of);
    Status::new(code, shorten(&error.message))
}

const FAULTS: [Fault; 11] = [
    Fault::InvalidArgument,
    Fault::NotFound,
    Fault::AlreadyExists,
    Fault::FailedPrecondition,
    Fault::ResourceExhausted,
    Fault::OutOfRange,
    Fault::Unimplemented,
    Fault::Unavailable,
    Fault::Aborted,
    Fault::Cancelled,
    Fault::Internal,
];

macro_rules! into_status {
    ($($error:ty),*) => {
        $(impl From<$error> for Status {
            fn from(error: $error) -> Self {
                status_of(&error)
            }
        })*
    };
}

into_status!(
    FlightError,
    CatalogError,
    UploadError,
    FeatureError,
    ServingError,
    TrainingError
);

fn shorten(message: &str) -> String {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message.to_owned();
    }
    let mut end = MESSAGE_BYTES_MAX;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &message[..end])
}

fn chain<E: Faulty + ?Sized>(error: &E) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = Error::source(error);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_comes_back_from_its_code() {
        for fault in FAULTS {
            assert_eq!(fault_of(code_of(fault)), fault);
        }
    }

    #[test]
    fn a_failed_job_keeps_its_code() {
        let status = status_of_job(&JobError {
            code: "FAILED_PRECONDITION".to_owned(),
            message: "the label has one class".to_owned(),
        });
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "the label has one class");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let status = status_of(&FlightError::BadMessage {
            reason: "é".repeat(10_000),
        });
        assert!(status.message().len() <= MESSAGE_BYTES_MAX + 3);
        assert!(status.message().ends_with("é..."));
    }
}
