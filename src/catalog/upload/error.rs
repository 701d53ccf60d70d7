//! What can go wrong between the beginning of an upload in parts and its commit.

use super::{LIFETIME_MAX, PARTS_MAX, UploadId};
use crate::catalog::CatalogError;
use crate::support::fault::{Fault, Faulty};

/// Failures of uploads in parts. Texts are for the caller; `source` is for the log.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(
        "there is no upload {id}; BeginUpload begins one, and one that has ended is forgotten after a day"
    )]
    Unknown { id: UploadId },
    #[error(
        "upload {id} was committed at {when}; begin another upload for further rows, or drop the dataset"
    )]
    Committed { id: UploadId, when: String },
    #[error("upload {id} was aborted at {when}; begin another and send its parts again")]
    Aborted { id: UploadId, when: String },
    #[error(
        "upload {id} expired at {when}: nothing had come for it for {lifetime_seconds} s; begin another, with a longer lifetime_seconds where parts take longer, and send its parts again"
    )]
    Expired {
        id: UploadId,
        when: String,
        lifetime_seconds: u64,
    },
    #[error(
        "part {part:?} cannot be used: {reason}; name it by 1 to 128 printable ASCII characters"
    )]
    BadPart { part: String, reason: String },
    #[error(
        "a lifetime of {seconds} s cannot be; give 1 to {} s, or 0 for an hour",
        LIFETIME_MAX.as_secs()
    )]
    BadLifetime { seconds: u64 },
    #[error(
        "upload {id} has {PARTS_MAX} parts, as many as one upload may; commit it, and begin another with larger parts"
    )]
    TooManyParts { id: UploadId },
    #[error("part {part:?} does not fit upload {id}: {reason}")]
    PartMisfit {
        id: UploadId,
        part: String,
        reason: String,
    },
    #[error(
        "upload {id} has no finished {missing}; send what is missing, or commit without it (DescribeUpload shows what there is)"
    )]
    Missing { id: UploadId, missing: String },
    #[error("part {part:?} is named twice; name the one attempt of it that counts")]
    NamedTwice { part: String },
    #[error(
        "upload {id} has no parts and no schema; send a part, give BeginUpload the schema of an empty dataset, or abort the upload"
    )]
    Nothing { id: UploadId },
    #[error("upload {id} was committed at {when} with other parts; nothing was changed")]
    OtherParts { id: UploadId, when: String },
    #[error(
        "the rows of upload {id} are gone: it was committed at {when}, and dataset {dataset:?} was dropped before this answer; begin another upload"
    )]
    Gone {
        id: UploadId,
        when: String,
        dataset: String,
    },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Faulty for UploadError {
    fn fault(&self) -> Fault {
        match self {
            Self::Unknown { .. } => Fault::NotFound,
            Self::Committed { .. }
            | Self::Aborted { .. }
            | Self::Expired { .. }
            | Self::Missing { .. }
            | Self::Nothing { .. }
            | Self::OtherParts { .. }
            | Self::Gone { .. } => Fault::FailedPrecondition,
            Self::BadPart { .. }
            | Self::BadLifetime { .. }
            | Self::PartMisfit { .. }
            | Self::NamedTwice { .. } => Fault::InvalidArgument,
            Self::TooManyParts { .. } => Fault::ResourceExhausted,
            Self::Catalog(error) => error.fault(),
        }
    }
}

impl From<crate::storage::StorageError> for UploadError {
    fn from(error: crate::storage::StorageError) -> Self {
        Self::Catalog(error.into())
    }
}

/// A moment as an error tells it.
pub(super) fn moment(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).unwrap_or(i64::MAX);
    arrow::array::TimestampMillisecondArray::from(vec![at])
        .value_as_datetime(0)
        .map_or_else(
            || format!("{at_ms} ms"),
            |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        )
}
