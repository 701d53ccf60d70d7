//! Which table a column of a result is taken from as it is, for drivers that ask.

use std::collections::HashSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;

use super::Query;

impl Query {
    /// For each column the table that it is read from unchanged and under its own name; `None` where it is computed, or
    /// where the statement gives the table another name, or this name to another table.
    pub fn tables(&self) -> Vec<Option<String>> {
        let (mut scanned, mut given) = (HashSet::new(), HashSet::new());
        // It never fails: the closure does not.
        let _ = self.plan.apply(|node| {
            match node {
                LogicalPlan::TableScan(scan) => {
                    scanned.insert(scan.table_name.table().to_owned());
                }
                LogicalPlan::SubqueryAlias(named) => {
                    given.insert(named.alias.table().to_owned());
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        });
        let columns = self.plan.schema().iter();
        columns
            .map(|(table, _)| Some(table?.table().to_owned()))
            .map(|table| table.filter(|name| scanned.contains(name) && !given.contains(name)))
            .collect()
    }
}
