//! The log: one subscriber per process, on standard error, for people or for machines.
//!
//! `error`: someone should come. `warn`: look tomorrow. `info`: a change of state. `debug`: one line per request.
//! Messages are fixed; what varies stands in fields.

use tracing_subscriber::EnvFilter;

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    /// Reads `text` or `json`; the error is the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(String::from("it is no form of log")),
        }
    }
}

/// Settings of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    /// A level or directives, checked by [`LogConfig::check_level`].
    pub level: String,
}

impl LogConfig {
    /// Whether `level` can be used; the error is the reason.
    pub fn check_level(level: &str) -> Result<(), String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        // The filter takes any bare word as a module's name; a misspelt level would silence everything.
        for directive in level.split(',').map(str::trim) {
            if !directive.contains('=') && !LEVELS.contains(&directive.to_lowercase().as_str()) {
                return Err(format!("{directive:?} is no level"));
            }
        }
        EnvFilter::try_new(level)
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// Libraries that report every read as a change of state, and every statistic of a version before an overwrite with
/// another type as something to look at; directives of the operator come after these and win.
const CHATTY: &str = "buoyant_kernel=error,deltalake_core=warn,chitchat=warn";

/// Starts the log. The first call of a process decides; later ones (a second server in a test) change nothing.
pub fn install(config: &LogConfig) {
    let filter = || {
        let quiet = format!("{CHATTY},{}", config.level);
        EnvFilter::try_new(quiet).unwrap_or_else(|_| EnvFilter::new("info"))
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let _ = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_word_or_directives() {
        for level in ["info", "DEBUG", "warn,volary=debug", "off"] {
            LogConfig::check_level(level).unwrap_or_else(|reason| panic!("{level}: {reason}"));
        }
        for level in ["loud", "volary=loud", "", "info,quiet"] {
            assert!(LogConfig::check_level(level).is_err(), "{level}");
        }
    }
}
