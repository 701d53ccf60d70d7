//! What the file, the environment and the flags said, as text and with its origin; nothing is checked but names.

use std::collections::BTreeMap;
use std::path::Path;

use super::ConfigError;
use super::options::{OPTIONS, OptionKind, ServerOption, option};

/// One value and the words by which the user gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenValue {
    /// `--listen`, `VOLARY_LISTEN`, or `listen in "volary.toml"`.
    pub setting: String,
    /// Items of a list, or one text.
    pub values: Vec<String>,
}

/// Values by option name; the strongest origin alone is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    values: BTreeMap<&'static str, GivenValue>,
}

impl Given {
    /// Reads flags, then variables, then the file that either of them names.
    pub fn collect(
        matches: &clap::ArgMatches,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut given = Self::default();
        given.add_flags(matches);
        given.add_variables(variable);
        if let Some(file) = given.one("config").map(|value| value.values[0].clone()) {
            let text =
                std::fs::read_to_string(&file).map_err(|error| ConfigError::UnreadableFile {
                    path: file.clone(),
                    reason: error.to_string(),
                })?;
            given.add_file(Path::new(&file), &text)?;
        }
        Ok(given)
    }

    /// Adds one value as if it were a flag: what tests and embedders use.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.values.insert(
            name,
            GivenValue {
                setting: format!("--{name}"),
                values: vec![value.to_owned()],
            },
        );
        self
    }

    pub(super) fn one(&self, name: &str) -> Option<&GivenValue> {
        self.values.get(name)
    }

    fn add(&mut self, option: &ServerOption, setting: String, values: Vec<String>) {
        let values = match option.kind {
            OptionKind::List => values
                .iter()
                .flat_map(|value| value.split(','))
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect(),
            _ => values,
        };
        if let Some(known) = OPTIONS.iter().find(|known| known.name == option.name) {
            self.values
                .entry(known.name)
                .or_insert(GivenValue { setting, values });
        }
    }

    fn add_flags(&mut self, matches: &clap::ArgMatches) {
        for option in OPTIONS {
            let setting = format!("--{}", option.name);
            if option.kind == OptionKind::Switch {
                if matches.get_flag(option.name) {
                    self.add(option, setting, vec![String::from("true")]);
                }
            } else if let Some(values) = matches.get_many::<String>(option.name) {
                self.add(option, setting, values.cloned().collect());
            }
        }
    }

    fn add_variables(&mut self, variable: impl Fn(&str) -> Option<String>) {
        for option in OPTIONS {
            let name = option.variable();
            // An empty variable is how shells and compose files say "not set".
            if let Some(value) = variable(&name).filter(|value| !value.is_empty()) {
                self.add(option, name, vec![value]);
            }
        }
    }

    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let path = path.display().to_string();
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // The parser draws the line over several lines; the first says what is wrong.
            ConfigError::BadFile {
                path: path.clone(),
                reason: error.message().trim().to_owned(),
            }
        })?;
        for (key, value) in table {
            let Some(option) = option(&key).filter(|option| option.name != "config") else {
                return Err(ConfigError::UnknownKey {
                    hint: suggestion(&key),
                    path,
                    key,
                });
            };
            let setting = format!("{key} in {path:?}");
            let values = texts(&value).ok_or_else(|| ConfigError::BadValue {
                setting: setting.clone(),
                value: value.to_string(),
                reason: format!("a {} cannot be used here", value.type_str()),
                hint: String::from("give a string, a number, a boolean or an array of strings"),
            })?;
            if option.kind != OptionKind::List && values.len() != 1 {
                return Err(ConfigError::BadValue {
                    setting,
                    value: value.to_string(),
                    reason: String::from("it takes one value"),
                    hint: format!("write `{key} = \"{}\"`", option.value_name),
                });
            }
            self.add(option, setting, values);
        }
        Ok(())
    }
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(truth) => Some(vec![truth.to_string()]),
        toml::Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// The known key that an unknown one was probably meant to be.
fn suggestion(key: &str) -> String {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_'], "");
    let wanted = plain(key);
    let near = OPTIONS
        .iter()
        .filter(|option| option.name != "config")
        .map(|option| (edit_distance(&wanted, &plain(option.name)), option.name))
        .min();
    match near {
        Some((distance, name)) if distance <= 2 => format!("did you mean {name:?}?"),
        _ => String::from("`volary serve --help` lists the keys"),
    }
}

fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, &to) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::arguments;

    fn matches(flags: &[&str]) -> clap::ArgMatches {
        clap::Command::new("serve")
            .args(arguments())
            .no_binary_name(true)
            .try_get_matches_from(flags)
            .expect("flags that clap takes")
    }

    fn collect(flags: &[&str], variables: &[(&str, &str)]) -> Result<Given, ConfigError> {
        Given::collect(&matches(flags), |name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_flag_outweighs_a_variable_and_a_variable_outweighs_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("volary.toml");
        std::fs::write(&file, "listen = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:2\"\nname = \"from-file\"\njoin = [\"a:1\", \"b:2\"]\nthreads = 3\n")
            .expect("written");
        let given = collect(
            &[
                "--listen",
                "127.0.0.1:9",
                "--config",
                file.to_str().expect("text"),
            ],
            &[
                ("VOLARY_LISTEN", "127.0.0.1:8"),
                ("VOLARY_HTTP", "127.0.0.1:7"),
            ],
        )
        .expect("collected");
        assert_eq!(given.one("listen").expect("given").values, ["127.0.0.1:9"]);
        assert_eq!(given.one("http").expect("given").setting, "VOLARY_HTTP");
        assert_eq!(given.one("name").expect("given").values, ["from-file"]);
        assert_eq!(given.one("join").expect("given").values, ["a:1", "b:2"]);
        assert_eq!(given.one("threads").expect("given").values, ["3"]);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_key_that_was_meant() {
        let mut given = Given::default();
        let error = given
            .add_file(Path::new("v.toml"), "max_mesage_size = \"1MiB\"")
            .expect_err("refused");
        assert_eq!(
            error.to_string(),
            "configuration file \"v.toml\" has an unknown key \"max_mesage_size\"; did you mean \"max-message-size\"?"
        );
        let error = given
            .add_file(Path::new("v.toml"), "zeppelin = 1")
            .expect_err("refused");
        assert!(error.to_string().ends_with("lists the keys"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_toml_or_has_tables_is_refused() {
        let mut given = Given::default();
        assert!(matches!(
            given.add_file(Path::new("v.toml"), "listen 127"),
            Err(ConfigError::BadFile { .. })
        ));
        assert!(matches!(
            given.add_file(Path::new("v.toml"), "[listen]\nport = 1"),
            Err(ConfigError::BadValue { .. })
        ));
        assert!(matches!(
            given.add_file(Path::new("v.toml"), "listen = [\"a\", \"b\"]"),
            Err(ConfigError::BadValue { .. })
        ));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = collect(&["--config", "/nowhere/v.toml"], &[]).expect_err("refused");
        assert!(error.to_string().contains("/nowhere/v.toml"), "{error}");
    }

    #[test]
    fn lists_are_split_at_commas_and_may_be_repeated() {
        let given = collect(&["--join", "a:1, b:2", "--join", "c:3"], &[]).expect("collected");
        assert_eq!(
            given.one("join").expect("given").values,
            ["a:1", "b:2", "c:3"]
        );
    }
}
