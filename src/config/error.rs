//! What can be wrong with settings. Every text names the setting as the user wrote it, the value, and the remedy.

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("{setting} is {value:?}: {reason}; {hint}")]
    BadValue {
        /// The setting as it was given: `--listen`, `VOLARY_LISTEN` or `listen in volary.toml`.
        setting: String,
        value: String,
        reason: String,
        hint: String,
    },
    #[error("configuration file {path:?} cannot be read: {reason}; check `--config`")]
    UnreadableFile { path: String, reason: String },
    #[error("configuration file {path:?} is not TOML: {reason}; write lines of `key = value`")]
    BadFile { path: String, reason: String },
    #[error("configuration file {path:?} has an unknown key {key:?}; {hint}")]
    UnknownKey {
        path: String,
        key: String,
        hint: String,
    },
    #[error("{setting} is {address}, which other machines can reach, and {lacking}; {hint}")]
    Exposed {
        setting: String,
        address: String,
        /// What would protect it: `connections are neither encrypted nor authenticated`.
        lacking: &'static str,
        hint: &'static str,
    },
    #[error("{given} is given and `--{missing}` is not; {hint}")]
    Incomplete {
        /// The setting as the user wrote it.
        given: String,
        missing: &'static str,
        hint: &'static str,
    },
    #[error(
        "{setting} is {address}, which is no address that others could call; \
         name one with `--advertise HOST:PORT`"
    )]
    NothingToAdvertise { setting: String, address: String },
}
