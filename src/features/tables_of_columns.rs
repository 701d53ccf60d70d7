//! Which table a column of a result is taken from as it is, for drivers that ask.

use std::collections::HashSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;

use super::Query;

impl Query {
    /// For each column the table that it is read from unchanged and under its own name; `None` where it is computed, or
    /// where the statement gives the table another name.
    pub fn tables(&self) -> Vec<Option<String>> {
        let mut scanned = HashSet::new();
        // It never fails: the closure does not.
        let _ = self.plan.apply(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                scanned.insert(scan.table_name.table().to_owned());
            }
            Ok(TreeNodeRecursion::Continue)
        });
        let columns = self.plan.schema().iter();
        columns
            .map(|(table, _)| Some(table?.table().to_owned()).filter(|name| scanned.contains(name)))
            .collect()
    }
}
