//! The one rule for names of datasets and models: they become folder names in the store.

use super::CatalogError;

/// Longest name in characters; object stores and file systems take 255 bytes for a component.
pub const NAME_CHARACTERS_MAX: usize = 128;

/// Refuses a name that could not be a folder of the store.
/// A name is 1 to 128 of `A-Z a-z 0-9 _ - .`, and starts with a letter, digit or underscore.
pub fn check_name(kind: &'static str, name: &str) -> Result<(), CatalogError> {
    let _ = (kind, name);
    todo!("data")
}
