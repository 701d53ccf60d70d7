//! How many tables a statement reads when every WITH is written out where it is used: the planner does just that, and
//! seventeen lines that each read the one before twice are a hundred thousand tables.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ObjectName, Query, Statement as SqlStatement, Visit, Visitor,
};

use super::FeatureError;

/// Tables read, those of a WITH as often as it is used.
const WRITTEN_OUT_MAX: usize = 400;

/// Refuses a statement that reads too many tables when it is written out.
pub(super) fn check_repeats(body: &SqlStatement) -> Result<(), FeatureError> {
    match body.visit(&mut Repeats::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

#[derive(Default)]
struct Repeats {
    /// Of the queries that are entered, the outermost first.
    queries: Vec<Written>,
}

/// What is known of one query so far.
#[derive(Default)]
struct Written {
    tables: usize,
    /// Its WITHs that are over, by name.
    named: HashMap<String, usize>,
    /// Its WITHs by the place of their query in the tree.
    names: HashMap<*const Query, String>,
}

impl Visitor for Repeats {
    type Break = FeatureError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<FeatureError> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.queries.push(Written {
            names: with
                .map(|table| {
                    (
                        std::ptr::from_ref(&*table.query),
                        folded(&table.alias.name.value),
                    )
                })
                .collect(),
            ..Written::default()
        });
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<FeatureError> {
        let name = folded(&relation.to_string().replace('"', ""));
        let read = self
            .queries
            .iter()
            .rev()
            .find_map(|query| query.named.get(&name).copied())
            .unwrap_or(1);
        if let Some(query) = self.queries.last_mut() {
            query.tables = query.tables.saturating_add(read);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<FeatureError> {
        let Some(done) = self.queries.pop() else {
            return ControlFlow::Continue(());
        };
        if done.tables > WRITTEN_OUT_MAX {
            return ControlFlow::Break(FeatureError::BadSql {
                reason: format!(
                    "it reads more than {WRITTEN_OUT_MAX} tables once every WITH is written out where it is used; \
                     make tables of the parts that are used often"
                ),
            });
        }
        if let Some(outer) = self.queries.last_mut() {
            match outer.names.get(&std::ptr::from_ref(query)) {
                Some(name) => {
                    outer.named.insert(name.clone(), done.tables);
                }
                None => outer.tables = outer.tables.saturating_add(done.tables),
            }
        }
        ControlFlow::Continue(())
    }
}

/// Names that differ in their case are taken for one: at worst a statement counts for more than it is.
fn folded(name: &str) -> String {
    name.to_lowercase()
}
