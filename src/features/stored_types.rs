//! From what a dataset's file stores to what SQL shows, for the types that a plain cast does not bring back.
//!
//! DataFusion's own adapter casts numbers, text and times. What the catalog stores in another shape (an interval as a
//! struct, a fixed-size list as a list) goes through the catalog's own way back, as an expression above the column.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};

use crate::catalog::restore_column;

/// Types to which DataFusion's cast from the stored form is exact.
fn casts(shown: &DataType) -> bool {
    shown.is_integer()
        || shown.is_floating()
        || matches!(
            shown,
            DataType::Boolean
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::Date32
                | DataType::Timestamp(_, _)
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Duration(_)
        )
}

/// Makes an adapter per file.
#[derive(Debug)]
pub(super) struct StoredTypes;

impl PhysicalExprAdapterFactory for StoredTypes {
    fn create(
        &self,
        shown: SchemaRef,
        file: SchemaRef,
    ) -> DataFusionResult<Arc<dyn PhysicalExprAdapter>> {
        let mut restored = Vec::new();
        let fields: Vec<FieldRef> = shown
            .fields()
            .iter()
            .map(|field| match file.field_with_name(field.name()) {
                Ok(stored)
                    if stored.data_type() != field.data_type() && !casts(field.data_type()) =>
                {
                    restored.push(Arc::clone(field));
                    let stored = field.as_ref().clone().with_data_type(stored.data_type().clone());
                    Arc::new(stored)
                }
                _ => Arc::clone(field),
            })
            .collect();
        let expected = Arc::new(Schema::new_with_metadata(fields, shown.metadata().clone()));
        let inner = DefaultPhysicalExprAdapterFactory.create(expected, file)?;
        if restored.is_empty() {
            return Ok(inner);
        }
        Ok(Arc::new(StoredTypesAdapter { inner, restored }))
    }
}

#[derive(Debug)]
struct StoredTypesAdapter {
    /// Knows the restored columns by their stored types.
    inner: Arc<dyn PhysicalExprAdapter>,
    restored: Vec<FieldRef>,
}

impl PhysicalExprAdapter for StoredTypesAdapter {
    fn rewrite(&self, expression: Arc<dyn PhysicalExpr>) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        let wrapped = expression
            .transform_down(|part| {
                let field = part.downcast_ref::<Column>().and_then(|column| {
                    self.restored
                        .iter()
                        .find(|field| field.name() == column.name())
                });
                Ok(match field {
                    None => Transformed::no(part),
                    Some(field) => {
                        let restored = RestoredColumn {
                            shown: Arc::clone(field),
                            stored: part,
                        };
                        Transformed::new(Arc::new(restored) as _, true, TreeNodeRecursion::Jump)
                    }
                })
            })?
            .data;
        self.inner.rewrite(wrapped)
    }
}

/// A stored column as the type that SQL shows.
#[derive(Debug)]
struct RestoredColumn {
    shown: FieldRef,
    stored: Arc<dyn PhysicalExpr>,
}

impl PartialEq for RestoredColumn {
    fn eq(&self, other: &Self) -> bool {
        self.shown == other.shown && self.stored.eq(&other.stored)
    }
}

impl Eq for RestoredColumn {}

impl Hash for RestoredColumn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shown.hash(state);
        self.stored.hash(state);
    }
}

impl fmt::Display for RestoredColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}", self.stored, self.shown.data_type())
    }
}

impl PhysicalExpr for RestoredColumn {
    fn data_type(&self, _: &Schema) -> DataFusionResult<DataType> {
        Ok(self.shown.data_type().clone())
    }

    fn nullable(&self, _: &Schema) -> DataFusionResult<bool> {
        Ok(self.shown.is_nullable())
    }

    fn return_field(&self, _: &Schema) -> DataFusionResult<FieldRef> {
        Ok(Arc::clone(&self.shown))
    }

    fn evaluate(&self, batch: &RecordBatch) -> DataFusionResult<ColumnarValue> {
        let stored = self.stored.evaluate(batch)?.into_array(batch.num_rows())?;
        restore_column(&stored, self.shown.data_type())
            .map(ColumnarValue::Array)
            .map_err(|error| DataFusionError::External(Box::new(error)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.stored]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        match children.pop() {
            Some(stored) => Ok(Arc::new(Self {
                shown: Arc::clone(&self.shown),
                stored,
            })),
            None => Ok(self),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
