//! Bytes and columns at rest: objects, Parquet files, Delta tables.
//!
//! Knows no names, no versions of models and no jobs: `catalog` gives those their places here.
//! The only folder that names `object_store`, `parquet` and `deltalake`.
//! An acknowledged write is on disk (file and directory flushed), and a broken one is invisible.

pub mod delta;
pub mod error;
pub mod objects;
pub mod parquet;
pub mod physical;
mod unfinished;

pub use delta::{TableChange, TableFile, TableVersion};
pub use error::StorageError;
pub use objects::Objects;
pub use unfinished::TOUCH_EVERY;

/// What a Parquet file's footer says.
pub use ::parquet::file::metadata::ParquetMetaData;
/// A place below the store's root, and the store itself, for whoever reads files beside us.
pub use object_store::{ObjectStore, path::Path};
