//! Architecture facts as tests: who imports whom, which third parties stand where, what is generated is fresh.
//!
//! Reads the source as text. Measures no line lengths and no comment densities; those are matters of review.
//! A fact that does not hold in one place is listed in [`EXCEPTIONS`] with its reason, and the test fails when an
//! exception is no longer needed. Refresh generated pages with `VOLARY_UPDATE_DOCS=1 cargo test --release --test tidy`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every folder (or file) of `src`, bottom-up, with the ones it may import. Nothing else is allowed.
const LAYERS: &[(&str, &[&str])] = &[
    ("support", &[]),
    ("telemetry", &[]),
    ("tensor", &["support"]),
    ("access", &["support"]),
    ("storage", &["support", "telemetry"]),
    ("cluster", &["support", "telemetry"]),
    ("autograd", &["tensor", "support"]),
    ("frames", &["tensor", "support"]),
    ("catalog", &["storage", "frames", "support", "telemetry"]),
    ("nn", &["autograd", "tensor", "support"]),
    ("optim", &["tensor", "support"]),
    ("features", &["catalog", "frames", "support", "telemetry"]),
    (
        "training",
        &[
            "nn",
            "optim",
            "autograd",
            "tensor",
            "frames",
            "features",
            "catalog",
            "storage",
            "cluster",
            "support",
            "telemetry",
        ],
    ),
    (
        "serving",
        &[
            "nn",
            "autograd",
            "tensor",
            "frames",
            "features",
            "catalog",
            "storage",
            "support",
            "telemetry",
        ],
    ),
    (
        "flight",
        &[
            "training",
            "serving",
            "features",
            "catalog",
            "frames",
            "nn",
            "cluster",
            "storage",
            "access",
            "support",
            "telemetry",
        ],
    ),
    ("config", &["access", "support", "telemetry"]),
    (
        "node",
        &[
            "config",
            "flight",
            "training",
            "serving",
            "features",
            "catalog",
            "cluster",
            "storage",
            "access",
            "tensor",
            "support",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "node",
            "config",
            "flight",
            "nn",
            "access",
            "support",
            "telemetry",
        ],
    ),
    ("main", &["cli"]),
];

/// A third party and the only places that name it.
const THIRD_PARTIES: &[(&str, &[&str])] = &[
    ("tonic", &["flight/"]),
    ("tonic_health", &["flight/"]),
    ("tonic_reflection", &["flight/"]),
    ("tonic_prost", &["flight/"]),
    ("arrow_flight", &["flight/"]),
    ("prost", &["flight/"]),
    ("prost_types", &["flight/"]),
    ("prost_reflect", &["flight/"]),
    ("datafusion", &["features/"]),
    ("deltalake", &["storage/"]),
    ("object_store", &["storage/"]),
    ("parquet", &["storage/"]),
    ("ndarray", &["tensor/"]),
    ("cblas_sys", &["tensor/"]),
    ("openblas_src", &["tensor/"]),
    ("clap", &["config/", "cli/"]),
    ("toml", &["config/"]),
    ("chitchat", &["cluster/"]),
    ("axum", &["node/"]),
    ("hyper_util", &["flight/"]),
    ("rustls", &["access/"]),
    ("tokio_rustls", &["access/"]),
    ("rustls_native_certs", &["access/"]),
    ("metrics_exporter_prometheus", &["telemetry/"]),
    ("tracing_subscriber", &["telemetry/"]),
    ("sysinfo", &["support/"]),
    ("mimalloc", &["main.rs"]),
];

/// Words that do not belong in the named folders: computation there is a function of its arguments.
const PURE: &[&str] = &["tensor/", "autograd/", "nn/", "optim/"];
const IMPURE_WORDS: &[&str] = &[
    "async",
    "await",
    "RwLock",
    "Instant",
    "SystemTime",
    "tracing",
    "tokio",
    "arrow",
];

/// One place where a fact does not hold.
struct Exception {
    /// File below `src`, or a folder ending in `/`.
    place: &'static str,
    /// The word or module found there.
    what: &'static str,
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[Exception {
    place: "catalog/",
    what: "object_store",
    reason: "a dataset hands out its files as the object store knows them, which is what DataFusion's scan takes",
}];

#[test]
fn modules_import_lower_layers_only() {
    let mut findings = Vec::new();
    for file in sources() {
        let module = file.module();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            if module != "lib" {
                findings.push(Finding::new(&file, &module, "has no line in LAYERS"));
            }
            continue;
        };
        for imported in file.crate_imports() {
            if imported != module && !allowed.contains(&imported.as_str()) {
                findings.push(Finding::new(&file, &imported, "is not below this layer"));
            }
        }
    }
    settle(findings, |exception| {
        LAYERS.iter().any(|(name, _)| *name == exception.what)
    });
}

#[test]
fn the_table_of_layers_has_no_cycle() {
    for (index, (name, imports)) in LAYERS.iter().enumerate() {
        for import in *imports {
            let position = LAYERS.iter().position(|(known, _)| known == import);
            assert!(
                position.is_some_and(|position| position < index),
                "{name} may import {import}, which is not above it in the table"
            );
        }
    }
}

#[test]
fn third_parties_stand_in_their_own_folders() {
    let mut findings = Vec::new();
    for file in sources() {
        let paths = file.paths();
        for (party, places) in THIRD_PARTIES {
            let at_home = places.iter().any(|place| file.name.starts_with(place));
            if !at_home && paths.contains(*party) {
                findings.push(Finding::new(&file, party, "does not belong here"));
            }
        }
    }
    settle(findings, |exception| {
        THIRD_PARTIES
            .iter()
            .any(|(party, _)| *party == exception.what)
    });
}

#[test]
fn computation_has_no_clock_no_lock_no_log_and_no_arrow() {
    let mut findings = Vec::new();
    for file in sources() {
        if PURE.iter().any(|place| file.name.starts_with(place)) {
            let words = file.words();
            for word in IMPURE_WORDS {
                if words.contains(*word) {
                    findings.push(Finding::new(&file, word, "is no part of a computation"));
                }
            }
        }
    }
    settle(findings, |exception| IMPURE_WORDS.contains(&exception.what));
}

#[test]
fn metrics_are_named_in_one_file() {
    for file in sources() {
        if file.name != "telemetry/metrics.rs" {
            for call in ["counter!", "gauge!", "histogram!"] {
                assert!(
                    !file.code.contains(call),
                    "{} records a metric of its own; declare it in telemetry/metrics.rs",
                    file.name
                );
            }
        }
    }
}

#[test]
fn nothing_is_left_to_do() {
    for file in sources() {
        for call in ["todo!", "unimplemented!"] {
            assert!(!file.code.contains(call), "{} has a {call}", file.name);
        }
    }
}

#[test]
fn there_is_one_arrow_in_the_tree() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    for party in [
        "arrow",
        "arrow-array",
        "arrow-schema",
        "arrow-flight",
        "parquet",
        "datafusion",
        "object_store",
        "tonic",
        "prost",
        "deltalake-core",
    ] {
        let line = format!("name = \"{party}\"");
        let count = lock.lines().filter(|known| **known == line).count();
        assert_eq!(count, 1, "Cargo.lock has {count} versions of {party}");
    }
}

#[test]
fn generated_pages_are_fresh() {
    let update = std::env::var_os("VOLARY_UPDATE_DOCS").is_some();
    for (path, page) in [
        (
            "docs/configuration.md",
            volary::config::options::configuration_page(),
        ),
        (
            "docs/metrics.md",
            volary::telemetry::metrics::metrics_page(),
        ),
    ] {
        let path = root().join(path);
        if update {
            fs::write(&path, &page).expect("written");
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == page,
            "{} is stale; run `VOLARY_UPDATE_DOCS=1 cargo test --release --test tidy`",
            path.display()
        );
    }
}

#[test]
fn the_reader_of_source_sees_code_and_no_text() {
    let code = code_of(
        "use crate::{cluster, config::Given};\n// crate::node\nlet x = \"crate::cli\"; let q = '\"'; let r = r#\"a \" crate::serving\"#;\n\
         fn f<'a>(x: &'a str) {} /* crate::training /* nested */ */ crate::support::x(); tonic::a(); my::parquet::b();\n\
         #[cfg(test)]\nmod tests { use crate::flight; }",
    );
    let file = Source {
        name: String::from("x/y.rs"),
        code,
    };
    let imports: Vec<_> = file.crate_imports().into_iter().collect();
    assert_eq!(imports, ["cluster", "config", "support"]);
    let paths = file.paths();
    assert!(
        paths.contains("tonic") && !paths.contains("parquet"),
        "{paths:?}"
    );
}

/// A fact that does not hold.
struct Finding {
    file: String,
    what: String,
    text: String,
}

impl Finding {
    fn new(file: &Source, what: &str, problem: &str) -> Self {
        Self {
            file: file.name.clone(),
            what: what.to_owned(),
            text: format!("src/{}: {what} {problem}", file.name),
        }
    }
}

/// Fails unless the findings are exactly the excepted ones; `concerns` picks the exceptions of this test.
fn settle(findings: Vec<Finding>, concerns: impl Fn(&Exception) -> bool) {
    let covers = |exception: &Exception, finding: &Finding| {
        exception.what == finding.what
            && (exception.place == finding.file
                || (exception.place.ends_with('/') && finding.file.starts_with(exception.place)))
    };
    let mut problems: Vec<String> = findings
        .iter()
        .filter(|finding| {
            !EXCEPTIONS
                .iter()
                .any(|exception| covers(exception, finding))
        })
        .map(|finding| finding.text.clone())
        .collect();
    for exception in EXCEPTIONS.iter().filter(|exception| concerns(exception)) {
        if !findings.iter().any(|finding| covers(exception, finding)) {
            problems.push(format!(
                "src/{}: the exception for {} ({}) is no longer needed",
                exception.place, exception.what, exception.reason
            ));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// One file of `src` without comments, texts and tests.
struct Source {
    /// Path below `src` with `/`.
    name: String,
    code: String,
}

impl Source {
    /// First folder, or the file's own name at the top.
    fn module(&self) -> String {
        let first = self.name.split('/').next().unwrap_or(&self.name);
        first.trim_end_matches(".rs").to_owned()
    }

    /// Modules named as `crate::module`, `crate::{module, ...}`.
    fn crate_imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (index, _) in self.code.match_indices("crate::") {
            let rest = &self.code[index + "crate::".len()..];
            if let Some(group) = rest.strip_prefix('{') {
                let mut depth = 0_usize;
                let mut item = String::new();
                for character in group.chars() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            found.insert(leading_word(&item));
                            item.clear();
                            continue;
                        }
                        _ => {}
                    }
                    item.push(character);
                }
                found.insert(leading_word(&item));
            } else {
                found.insert(leading_word(rest));
            }
        }
        found.retain(|word| word.starts_with(|first: char| first.is_ascii_lowercase()));
        found
    }

    /// Words that begin a path: `tonic` in `tonic::Status`, not `parquet` in `storage::parquet::read`.
    fn paths(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (index, _) in self.code.match_indices("::") {
            let before = &self.code[..index];
            let word = trailing_word(before);
            if !before[..before.len() - word.len()].ends_with("::") {
                found.insert(word.to_owned());
            }
        }
        found
    }

    fn words(&self) -> BTreeSet<String> {
        self.code
            .split(|character: char| !character.is_alphanumeric() && character != '_')
            .map(str::to_owned)
            .collect()
    }
}

fn leading_word(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect()
}

fn trailing_word(text: &str) -> &str {
    let start = text
        .char_indices()
        .rev()
        .take_while(|(_, character)| character.is_alphanumeric() || *character == '_')
        .last()
        .map_or(text.len(), |(index, _)| index);
    &text[start..]
}

/// Every source file but those that are tests as a whole (`tests.rs`, `tests/`, `*_tests.rs`).
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    assert!(found.len() > 20, "only {} source files found", found.len());
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            // Generated code is the generator's business.
            if !path.ends_with("generated") && !path.ends_with("tests") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(root().join("src"))
                .expect("below src")
                .to_string_lossy()
                .replace('\\', "/");
            if !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).expect("source text");
                found.push(Source {
                    name,
                    code: code_of(&text),
                });
            }
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Source without comments, texts and characters, up to its tests (which may look anywhere).
fn code_of(text: &str) -> String {
    let text = match text.find("#[cfg(test)]\nmod ") {
        Some(end) => &text[..end],
        None => text,
    };
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let mut code = String::with_capacity(text.len());
    let mut index = 0;
    while index < characters.len() {
        match characters[index] {
            '/' if at(index + 1) == '/' => {
                while index < characters.len() && characters[index] != '\n' {
                    index += 1;
                }
            }
            '/' if at(index + 1) == '*' => {
                let mut depth = 1;
                index += 2;
                while depth > 0 && index < characters.len() {
                    match (at(index), at(index + 1)) {
                        ('/', '*') => (depth, index) = (depth + 1, index + 2),
                        ('*', '/') => (depth, index) = (depth - 1, index + 2),
                        _ => index += 1,
                    }
                }
            }
            'r' if raw_string_hashes(&characters, index).is_some() && !in_word(&code) => {
                let hashes = raw_string_hashes(&characters, index).unwrap_or(0);
                index += 2 + hashes;
                while index < characters.len()
                    && !(at(index) == '"' && (1..=hashes).all(|offset| at(index + offset) == '#'))
                {
                    index += 1;
                }
                index += 1 + hashes;
            }
            '"' => {
                index += 1;
                while index < characters.len() && at(index) != '"' {
                    index += if at(index) == '\\' { 2 } else { 1 };
                }
                index += 1;
            }
            // A character, not a lifetime.
            '\'' if at(index + 1) == '\\' || at(index + 2) == '\'' => {
                index += if at(index + 1) == '\\' { 3 } else { 2 };
                while index < characters.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            }
            character => {
                code.push(character);
                index += 1;
            }
        }
    }
    code
}

fn in_word(code: &str) -> bool {
    code.ends_with(|character: char| {
        (character.is_alphanumeric() || character == '_') && character != 'b'
    })
}

/// The number of `#` when a raw string begins here.
fn raw_string_hashes(characters: &[char], index: usize) -> Option<usize> {
    let hashes = characters[index + 1..]
        .iter()
        .take_while(|character| **character == '#')
        .count();
    (characters.get(index + 1 + hashes) == Some(&'"')).then_some(hashes)
}
