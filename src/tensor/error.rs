//! What can go wrong with arrays and their bytes.

use thiserror::Error;

/// Two shapes that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{operation}: shapes {shapes} do not go together; {hint}")]
pub struct ShapeError {
    pub operation: &'static str,
    pub shapes: String,
    pub hint: &'static str,
}

/// Bytes that are not an archive of named float32 arrays.
#[derive(Debug, Error)]
pub enum ArchiveError {
    #[error("the bytes are not a safetensors archive: {0}; send the bytes of a .safetensors file")]
    Malformed(String),
    #[error("array {name:?} has type {found}; only F32 is read, convert it first")]
    WrongType { name: String, found: String },
    #[error("array {name:?} says shape {shape:?} but has {len} numbers; the two must agree")]
    WrongLength {
        name: String,
        shape: Vec<usize>,
        len: usize,
    },
    #[error("array name {name:?} comes twice; names must differ")]
    DuplicateName { name: String },
}
