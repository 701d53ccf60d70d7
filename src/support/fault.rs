//! Whose fault an error is, said once per error type and turned into a gRPC code at the edge alone.

/// The class of a failure; `flight/status.rs` gives each its gRPC code, a failed job keeps the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    ResourceExhausted,
    OutOfRange,
    Unimplemented,
    Unavailable,
    Aborted,
    Cancelled,
    Internal,
}

impl Fault {
    /// The name gRPC gives to this class, as written into failed jobs.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Aborted => "ABORTED",
            Self::Cancelled => "CANCELLED",
            Self::Internal => "INTERNAL",
        }
    }
}

/// An error that knows its class.
pub trait Faulty: std::error::Error {
    fn fault(&self) -> Fault;
}
