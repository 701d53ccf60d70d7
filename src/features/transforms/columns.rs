//! The columns of a pipeline on their way from raw to feature: each an expression over the raw ones.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility, cast, ident, try_cast};

use super::fitted::{FillValue, FittedStep};
use super::{Place, spec::TransformSpec};
use crate::features::FeatureError;
use crate::features::error::{from_datafusion, list_names, unknown_column};
use crate::features::functions::{ColumnFunction, NumericFunction};
use crate::features::nesting::{OPERATORS_MAX, check_nesting};
use crate::features::vectors::{is_list_of_numbers, is_number, vector_type};

/// How lists become vectors.
const VECTOR_HINT: &str =
    "make vectors of one length of its lists, as in arrow_cast(v, 'FixedSizeList(16 x Float64)')";

/// What a column holds at this point of the pipeline.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::features) enum ColumnKind {
    /// Float64.
    Float,
    /// Int64.
    Integer,
    Boolean,
    /// One of the Utf8 types.
    Text(DataType),
    /// Int32 below `cardinality`.
    Index {
        cardinality: u32,
    },
    OneHot {
        slots: usize,
    },
    /// A fixed-size list of so many numbers of this type, at least one.
    Vector {
        width: usize,
        item: DataType,
    },
    /// What no transform but `expression` and `drop` takes.
    Other(DataType),
}

impl ColumnKind {
    /// The kind of a raw column.
    pub(in crate::features) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Text(data_type.clone())
            }
            DataType::Dictionary(_, values) => match values.as_ref() {
                DataType::Utf8 | DataType::Utf8View => Self::Text(DataType::Utf8),
                DataType::LargeUtf8 => Self::Text(DataType::LargeUtf8),
                other => Self::Other(other.clone()),
            },
            other if other.is_integer() => Self::Integer,
            other if other.is_floating() || other.is_decimal() => Self::Float,
            DataType::FixedSizeList(item, size) if *size > 0 && is_number(item.data_type()) => {
                Self::Vector {
                    width: *size as usize,
                    item: item.data_type().clone(),
                }
            }
            other => Self::Other(other.clone()),
        }
    }

    pub(in crate::features) fn data_type(&self) -> DataType {
        match self {
            Self::Float => DataType::Float64,
            Self::Integer => DataType::Int64,
            Self::Boolean => DataType::Boolean,
            Self::Index { .. } => DataType::Int32,
            Self::OneHot { slots } => crate::features::functions::one_hot_type(*slots),
            Self::Vector { width, item } => vector_type(item, *width),
            Self::Text(data_type) | Self::Other(data_type) => data_type.clone(),
        }
    }

    /// In the words of an error.
    pub(in crate::features) fn describe(&self) -> String {
        match self {
            Self::Float => "numbers".into(),
            Self::Integer => "integers".into(),
            Self::Boolean => "booleans".into(),
            Self::Text(_) => "text".into(),
            Self::Index { .. } => "indices already".into(),
            Self::OneHot { .. } => "one-hot already".into(),
            Self::Vector { width, .. } => format!("vectors of {width} numbers"),
            Self::Other(data_type) => format!("of type {data_type}"),
        }
    }
}

/// One column as the pipeline has made it so far.
#[derive(Debug, Clone)]
pub(in crate::features) struct PipelineColumn {
    pub name: String,
    pub kind: ColumnKind,
    pub expression: Expr,
}

/// All columns, in order.
#[derive(Debug, Clone)]
pub(in crate::features) struct ColumnSet {
    columns: Vec<PipelineColumn>,
}

impl ColumnSet {
    /// The raw columns.
    pub(in crate::features) fn raw<'a>(fields: impl IntoIterator<Item = &'a Field>) -> Self {
        let columns = fields
            .into_iter()
            .map(|field| {
                let kind = ColumnKind::of(field.data_type());
                let column = ident(field.name());
                let wanted = kind.data_type();
                let is_vector = matches!(kind, ColumnKind::Vector { .. });
                let expression = if is_vector || field.data_type() == &wanted {
                    column
                } else {
                    cast(column, wanted)
                };
                PipelineColumn {
                    name: field.name().clone(),
                    kind,
                    expression,
                }
            })
            .collect();
        Self { columns }
    }

    pub(in crate::features) fn columns(&self) -> &[PipelineColumn] {
        &self.columns
    }

    pub(in crate::features) fn get(
        &self,
        name: &str,
        place: Place<'_>,
    ) -> Result<&PipelineColumn, FeatureError> {
        self.columns
            .iter()
            .find(|column| column.name == name)
            .ok_or_else(|| self.unknown(name, place))
    }

    fn unknown(&self, name: &str, place: Place<'_>) -> FeatureError {
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        unknown_column(
            name,
            &format!(" (pipeline step {}, {})", place.step, place.transform),
            &names,
        )
    }

    /// Whether `spec` may be fitted to column `name`; what it may not be is said with what would do.
    pub(in crate::features) fn check(
        &self,
        spec: &TransformSpec,
        name: &str,
        place: Place<'_>,
    ) -> Result<(), FeatureError> {
        use super::spec::ImputeStrategy as Strategy;
        let kind = &self.get(name, place)?.kind;
        let numeric = matches!(kind, ColumnKind::Float | ColumnKind::Integer);
        let plain = numeric || matches!(kind, ColumnKind::Boolean | ColumnKind::Text(_));
        let (fits, wants, remedy) = match spec {
            TransformSpec::Impute {
                strategy: Strategy::Mean | Strategy::Median,
                ..
            } => (numeric, "numbers", "use strategy most_frequent or constant"),
            TransformSpec::Impute { .. } => (
                plain,
                "numbers, booleans or text",
                "impute before other transforms",
            ),
            TransformSpec::Standardize { .. }
            | TransformSpec::MinMax { .. }
            | TransformSpec::Bucketize { .. }
            | TransformSpec::Log1p { .. }
            | TransformSpec::Clip { .. } => (
                numeric,
                "numbers",
                "for text use one_hot, string_index or hash; for dates an expression such as date_part('year', d)",
            ),
            TransformSpec::OneHot { .. } | TransformSpec::StringIndex { .. } => (
                plain && *kind != ColumnKind::Float,
                "text, integers or booleans",
                "bucketize numbers with fractions",
            ),
            TransformSpec::Hash { .. } => (
                plain,
                "text, numbers or booleans",
                "cast it to text in an expression",
            ),
            TransformSpec::Cross { .. } => (
                plain || matches!(kind, ColumnKind::Index { .. }),
                "text, numbers, booleans or indices",
                "cross before one_hot",
            ),
            TransformSpec::Expression { .. } | TransformSpec::Drop { .. } => return Ok(()),
        };
        if fits {
            Ok(())
        } else {
            Err(place.refuse(format!(
                "column {name:?} is {}, and {} takes {wants}; {remedy}",
                kind.describe(),
                place.transform
            )))
        }
    }

    /// The expression of a numeric column in float64.
    pub(in crate::features) fn float(column: &PipelineColumn) -> Expr {
        match column.kind {
            ColumnKind::Float => column.expression.clone(),
            _ => cast(column.expression.clone(), DataType::Float64),
        }
    }

    /// The expression of a categorical column as the lookup takes it: text or int64.
    pub(in crate::features) fn category(column: &PipelineColumn) -> Expr {
        match column.kind {
            ColumnKind::Boolean => cast(column.expression.clone(), DataType::Int64),
            _ => column.expression.clone(),
        }
    }

    /// Makes the step's columns out of the present ones.
    pub(in crate::features) fn apply(
        &mut self,
        step: &FittedStep,
        number: usize,
        state: &SessionState,
    ) -> Result<(), FeatureError> {
        let place = Place {
            step: number,
            transform: step.transform(),
        };
        let numeric = |function, column: &PipelineColumn| {
            (
                ColumnKind::Float,
                ColumnFunction::Numeric(function).over(vec![Self::float(column)]),
            )
        };
        match step {
            FittedStep::Fill { column, value } => self.change(column, place, |old| match value {
                FillValue::Number(number) => numeric(NumericFunction::Fill(*number), old),
                FillValue::Integer(number) => (
                    ColumnKind::Integer,
                    ColumnFunction::FillInteger(*number).over(vec![old.expression.clone()]),
                ),
                FillValue::Boolean(value) => (
                    ColumnKind::Boolean,
                    ColumnFunction::FillBoolean(*value).over(vec![old.expression.clone()]),
                ),
                FillValue::Text(text) => (
                    old.kind.clone(),
                    ColumnFunction::FillText(text.clone()).over(vec![old.expression.clone()]),
                ),
            }),
            FittedStep::Scale {
                column,
                shift,
                scale,
                ..
            } => self.change(column, place, |old| {
                numeric(
                    NumericFunction::Scale {
                        shift: *shift,
                        scale: *scale,
                    },
                    old,
                )
            }),
            FittedStep::Log1p { column } => {
                self.change(column, place, |old| numeric(NumericFunction::Log1p, old))
            }
            FittedStep::Clip { column, min, max } => self.change(column, place, |old| {
                numeric(
                    NumericFunction::Clip {
                        min: min.unwrap_or(f64::NEG_INFINITY),
                        max: max.unwrap_or(f64::INFINITY),
                    },
                    old,
                )
            }),
            FittedStep::OneHot {
                column,
                categories,
                bucket,
            } => self.change(column, place, |old| {
                (
                    ColumnKind::OneHot {
                        slots: ColumnFunction::slots(categories, *bucket),
                    },
                    ColumnFunction::OneHot {
                        categories: Arc::clone(categories),
                        bucket: *bucket,
                    }
                    .over(vec![Self::category(old)]),
                )
            }),
            FittedStep::Index { column, categories } => self.change(column, place, |old| {
                (
                    ColumnKind::Index {
                        cardinality: categories.len() as u32 + 1,
                    },
                    ColumnFunction::Index(Arc::clone(categories)).over(vec![Self::category(old)]),
                )
            }),
            FittedStep::Hash { column, buckets } => self.change(column, place, |old| {
                (
                    ColumnKind::Index {
                        cardinality: *buckets,
                    },
                    ColumnFunction::Hash { buckets: *buckets }.over(vec![old.expression.clone()]),
                )
            }),
            FittedStep::Bucketize { column, boundaries } => self.change(column, place, |old| {
                (
                    ColumnKind::Index {
                        cardinality: boundaries.len() as u32 + 1,
                    },
                    ColumnFunction::Bucketize(Arc::clone(boundaries)).over(vec![Self::float(old)]),
                )
            }),
            FittedStep::Cross {
                columns,
                name,
                buckets,
            } => {
                let parts = columns
                    .iter()
                    .map(|column| Ok(self.get(column, place)?.expression.clone()))
                    .collect::<Result<Vec<_>, FeatureError>>()?;
                self.put(PipelineColumn {
                    name: name.clone(),
                    kind: ColumnKind::Index {
                        cardinality: *buckets,
                    },
                    expression: ColumnFunction::Cross { buckets: *buckets }.over(parts),
                });
                Ok(())
            }
            FittedStep::Expression { name, sql } => {
                let column = self.expression(name, sql, place, state)?;
                self.put(column);
                Ok(())
            }
            FittedStep::Drop { column } => {
                self.get(column, place)?;
                self.columns.retain(|other| &other.name != column);
                Ok(())
            }
        }
    }

    fn change(
        &mut self,
        name: &str,
        place: Place<'_>,
        make: impl FnOnce(&PipelineColumn) -> (ColumnKind, Expr),
    ) -> Result<(), FeatureError> {
        match self.columns.iter_mut().find(|column| column.name == name) {
            None => Err(self.unknown(name, place)),
            Some(column) => {
                (column.kind, column.expression) = make(column);
                Ok(())
            }
        }
    }

    /// Replaces the column of that name in its place, or adds it at the end.
    fn put(&mut self, column: PipelineColumn) {
        match self.columns.iter_mut().find(|old| old.name == column.name) {
            Some(old) => *old = column,
            None => self.columns.push(column),
        }
    }

    /// A SQL expression over the present columns, as one over the raw columns.
    fn expression(
        &self,
        name: &str,
        sql: &str,
        place: Place<'_>,
        state: &SessionState,
    ) -> Result<PipelineColumn, FeatureError> {
        let (expression, data_type) = self.parse(sql, place, state)?;
        let kind = ColumnKind::of(&data_type);
        if let ColumnKind::Other(data_type) = &kind {
            return Err(place.refuse(format!(
                "the expression is of type {data_type}; CAST it to DOUBLE, BIGINT, BOOLEAN or VARCHAR, or {VECTOR_HINT}"
            )));
        }
        let wanted = kind.data_type();
        let is_vector = matches!(kind, ColumnKind::Vector { .. });
        let expression = if is_vector || data_type == wanted {
            expression
        } else {
            cast(expression, wanted)
        };
        Ok(PipelineColumn {
            name: name.to_owned(),
            kind,
            expression,
        })
    }

    fn parse(
        &self,
        sql: &str,
        place: Place<'_>,
        state: &SessionState,
    ) -> Result<(Expr, DataType), FeatureError> {
        if sql.len() > crate::features::statements::STATEMENT_BYTES_MAX {
            return Err(
                place.refuse("the expression is longer than a statement may be; shorten it")
            );
        }
        check_nesting(sql).map_err(|reason| place.refuse(reason))?;
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|column| Field::new(&column.name, column.kind.data_type(), true))
            .collect();
        let failed = |error| match from_datafusion(error) {
            FeatureError::UnknownColumn { column, .. } => self.unknown(&column, place),
            other => place.refuse(format!("{sql:?}: {other}")),
        };
        let schema =
            DFSchema::from_unqualified_fields(fields.into(), HashMap::new()).map_err(failed)?;
        let parsed = state.create_logical_expr(sql, &schema).map_err(failed)?;
        let parsed = plain_casts(parsed.unalias()).map_err(failed)?;
        if let Some(reason) = not_a_row_expression(&parsed).map_err(failed)? {
            return Err(place.refuse(format!(
                "{sql:?} has {reason}; an expression is of one row's columns alone"
            )));
        }
        let data_type = parsed.get_type(&schema).map_err(failed)?;
        let by_name: HashMap<&str, &Expr> = self
            .columns
            .iter()
            .map(|column| (column.name.as_str(), &column.expression))
            .collect();
        composed_size(&parsed, &by_name).map_err(|reason| place.refuse(reason))?;
        let composed = parsed
            .transform_down(|part| {
                Ok(match &part {
                    Expr::Column(Column { name, .. }) => match by_name.get(name.as_str()) {
                        // What is put in is over raw columns: it must not be looked into again.
                        Some(expression) => Transformed::new(
                            (*expression).clone(),
                            true,
                            datafusion::common::tree_node::TreeNodeRecursion::Jump,
                        ),
                        None => Transformed::no(part),
                    },
                    _ => Transformed::no(part),
                })
            })
            .map_err(failed)?
            .data;
        Ok((composed, data_type))
    }

    /// Raw columns that the present ones are made of.
    pub(in crate::features) fn raw_names(&self) -> std::collections::HashSet<String> {
        self.columns
            .iter()
            .flat_map(|column| column.expression.column_refs())
            .map(|column| column.name.clone())
            .collect()
    }

    /// Refuses columns that are not numbers at the end of the pipeline.
    pub(in crate::features) fn check_finished(&self) -> Result<(), FeatureError> {
        for column in &self.columns {
            match &column.kind {
                ColumnKind::Text(_) => {
                    return Err(FeatureError::BadColumn {
                        column: column.name.clone(),
                        problem: "is text, which a network cannot read".into(),
                        hint: "encode it with one_hot, string_index or hash, or drop it".into(),
                    });
                }
                ColumnKind::Other(data_type) => {
                    return Err(FeatureError::BadColumn {
                        column: column.name.clone(),
                        problem: format!("is of type {data_type}, which a network cannot read"),
                        hint: if is_list_of_numbers(data_type) {
                            format!("with an expression {VECTOR_HINT}")
                        } else {
                            "make a number of it with an expression, or drop it".into()
                        },
                    });
                }
                _ => {}
            }
        }
        if self.columns.is_empty() {
            return Err(FeatureError::BadColumn {
                column: "features".into(),
                problem: "are none after the pipeline".into(),
                hint: format!("keep at least one; the pipeline has {}", list_names([])),
            });
        }
        Ok(())
    }
}

/// Parts of an expression over raw columns, at most: steps that read each other can double it each time.
const PARTS_MAX: usize = 20_000;

/// Levels and parts of an expression.
#[derive(Clone, Copy, Default)]
struct Size {
    levels: usize,
    parts: usize,
}

/// Refuses an expression that grows too deep or too large when its columns are replaced by what they are made of.
/// Before it is built. Recurses to the depth of expressions that passed the same limit.
fn composed_size(parsed: &Expr, columns: &HashMap<&str, &Expr>) -> Result<(), String> {
    let mut sizes = HashMap::new();
    for column in parsed.column_refs() {
        if let Some((name, expression)) = columns.get_key_value(column.name.as_str()) {
            sizes.insert(*name, size(expression, &HashMap::new()));
        }
    }
    let composed = size(parsed, &sizes);
    // A cast may stand around every operand.
    if composed.levels > 2 * OPERATORS_MAX {
        return Err(format!(
            "with the steps that it reads, the expression has {} levels; at most {} are computed, so read fewer steps in a row",
            composed.levels,
            2 * OPERATORS_MAX
        ));
    }
    if composed.parts > PARTS_MAX {
        return Err(format!(
            "with the steps that it reads, the expression has {} parts; at most {PARTS_MAX} are computed, so read each step less often",
            composed.parts
        ));
    }
    Ok(())
}

fn size(expression: &Expr, columns: &HashMap<&str, Size>) -> Size {
    if let Expr::Column(column) = expression
        && let Some(size) = columns.get(column.name.as_str())
    {
        return *size;
    }
    let mut inside = Size::default();
    let walked = expression.apply_children(|part| {
        let part = size(part, columns);
        inside.levels = inside.levels.max(part.levels);
        inside.parts = inside.parts.saturating_add(part.parts);
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok());
    Size {
        levels: inside.levels + 1,
        parts: inside.parts.saturating_add(1),
    }
}

/// Casts in place of `arrow_cast`, which DataFusion's optimizer would make of it and nothing else can run.
fn plain_casts(expression: Expr) -> datafusion::error::Result<Expr> {
    let replaced = expression.transform_up(|part| {
        let Expr::ScalarFunction(call) = &part else {
            return Ok(Transformed::no(part));
        };
        let is_try = match call.func.name() {
            "arrow_cast" => false,
            "arrow_try_cast" => true,
            _ => return Ok(Transformed::no(part)),
        };
        let [value, Expr::Literal(wanted, _)] = call.args.as_slice() else {
            return Ok(Transformed::no(part));
        };
        let wanted: DataType = match wanted.try_as_str() {
            Some(Some(text)) => text.parse()?,
            _ => return Ok(Transformed::no(part)),
        };
        let value = value.clone();
        Ok(Transformed::yes(if is_try {
            try_cast(value, wanted)
        } else {
            cast(value, wanted)
        }))
    });
    Ok(replaced?.data)
}

/// What in an expression reaches beyond its row or differs from call to call.
fn not_a_row_expression(expression: &Expr) -> datafusion::error::Result<Option<&'static str>> {
    let mut found = None;
    expression.apply(|part| {
        found = match part {
            Expr::AggregateFunction(_) => Some("an aggregate"),
            Expr::WindowFunction(_) => Some("a window function"),
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => Some("a subquery"),
            Expr::Placeholder(_) => Some("a parameter"),
            Expr::ScalarFunction(call)
                if call.func.signature().volatility != Volatility::Immutable =>
            {
                Some("a function whose answer depends on more than its arguments")
            }
            _ => return Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue),
        };
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Stop)
    })?;
    Ok(found)
}
