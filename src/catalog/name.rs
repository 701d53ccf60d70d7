//! The one rule for names of datasets and models: they become folder names in the store.

use super::CatalogError;

/// Longest name in characters; object stores and file systems take 255 bytes for a component.
pub const NAME_CHARACTERS_MAX: usize = 128;

/// Most names that a hint lists.
const HINT_NAMES_MAX: usize = 5;

/// Refuses a name that could not be a folder of the store.
/// A name is 1 to 128 of `A-Z a-z 0-9 _ - .`, and starts with a letter or digit: a folder that starts with an
/// underscore is Delta's own, as `_delta_log` is.
pub fn check_name(kind: &'static str, name: &str) -> Result<(), CatalogError> {
    let length = name.chars().count();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let reason = if name.is_empty() {
        "it is empty".to_string()
    } else if length > NAME_CHARACTERS_MAX {
        format!("it has {length} characters")
    } else if let Some(odd) = name.chars().find(|c| !fits(*c)) {
        format!("it holds {odd:?}")
    } else if name.starts_with(['-', '.', '_']) {
        format!("it begins with {:?}", &name[..1])
    } else {
        return Ok(());
    };
    Err(CatalogError::BadName {
        kind,
        name: shortened(name),
        reason,
    })
}

/// What to try instead of a name that does not exist: the near ones, else the first ones there are.
pub(crate) fn hint(kind: &str, name: &str, existing: &[String]) -> String {
    if existing.is_empty() {
        return format!("the store has no {kind}s yet");
    }
    let wanted = name.to_lowercase();
    let far = (wanted.chars().count() / 3).max(2);
    let mut near: Vec<(usize, &String)> = existing
        .iter()
        .map(|other| (distance(&wanted, &other.to_lowercase()), other))
        .filter(|(edits, other)| *edits <= far || other.to_lowercase().starts_with(&wanted))
        .collect();
    near.sort();
    if near.is_empty() {
        let first: Vec<String> = existing
            .iter()
            .take(HINT_NAMES_MAX)
            .map(|name| format!("{name:?}"))
            .collect();
        let more = existing.len() - first.len();
        let rest = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        return format!("{kind}s are {}{rest}", first.join(", "));
    }
    let near: Vec<String> = near
        .iter()
        .take(HINT_NAMES_MAX)
        .map(|(_, name)| format!("{name:?}"))
        .collect();
    format!("did you mean {}", near.join(" or "))
}

/// A name as an error shows it: a page of garbage helps nobody.
pub(crate) fn shortened(name: &str) -> String {
    const SHOWN: usize = 64;
    if name.chars().count() <= SHOWN {
        return name.to_string();
    }
    name.chars().take(SHOWN).chain("...".chars()).collect()
}

/// Levenshtein's distance: insertions, deletions and replacements of one character.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.chars().enumerate() {
        let mut corner = above[0];
        above[0] = row + 1;
        for (column, b) in to.iter().enumerate() {
            let replaced = corner + usize::from(a != *b);
            corner = above[column + 1];
            above[column + 1] = replaced.min(above[column] + 1).min(corner + 1);
        }
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folder_names_on_every_store() {
        let longest = "a".repeat(NAME_CHARACTERS_MAX);
        for good in ["a", "census", "x_", "9lives", "v1.2-b_C", longest.as_str()] {
            check_name("dataset", good).unwrap();
        }
        let endless = "a".repeat(10_000);
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\0b",
            "-x",
            ".hidden",
            "_delta_log",
            "_x",
            "a b",
            "größe",
            "a@3",
            "a\\b",
            endless.as_str(),
        ] {
            let text = check_name("dataset", bad).unwrap_err().to_string();
            assert!(text.len() < 400, "{text}");
        }
    }

    #[test]
    fn a_hint_names_what_is_near_or_what_there_is() {
        let names: Vec<String> = ["census", "census_test", "flights", "iris", "mnist", "wine"]
            .map(String::from)
            .into();
        assert_eq!(hint("dataset", "cencus", &names), "did you mean \"census\"");
        assert_eq!(
            hint("dataset", "zzzzzz", &names),
            "datasets are \"census\", \"census_test\", \"flights\", \"iris\", \"mnist\" and 1 more"
        );
        assert_eq!(hint("model", "x", &[]), "the store has no models yet");
    }
}
