use serde_json::json;

use super::*;

#[test]
fn every_function_has_a_name_of_its_own() {
    let mut names = functions::names();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
