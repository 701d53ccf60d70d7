//! Carries out what SQL changes of tables: streamed, in bounded memory, one commit or none.
//!
//! Knows the catalog; does not know models, nor whence the values of parameters come.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;

use super::changes::{CreateTable, Existing, Insert};
use super::session::conform;
use super::{FeatureError, Query, QueryEngine};
use crate::catalog::{CatalogError, Dataset, DatasetReference, DatasetWriter, WriteMode};

/// An INSERT under way. Dropped without `commit`, it leaves nothing.
#[derive(Debug)]
pub struct Insertion {
    /// Of the rows as they are written.
    schema: SchemaRef,
    rows: Query,
    writer: DatasetWriter,
}

impl QueryEngine {
    /// Makes a table; answers its rows, none where it is there and stays.
    pub async fn create_table(&self, create: CreateTable) -> Result<u64, FeatureError> {
        let datasets = &self.catalog().datasets;
        let schema = create.schema();
        let CreateTable {
            name,
            existing,
            rows,
            ..
        } = create;
        if existing == Existing::Keep {
            let reference = DatasetReference {
                name: name.clone(),
                version: None,
            };
            match datasets.open(&reference).await {
                Ok(_) => return Ok(0),
                Err(CatalogError::UnknownDataset { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mode = match existing {
            Existing::Replace => WriteMode::Overwrite,
            Existing::Refuse | Existing::Keep => WriteMode::Error,
        };
        let created = async {
            let mut writer = datasets.write(&name, Arc::clone(&schema), mode).await?;
            write(&mut writer, &schema, rows).await?;
            Ok(writer.commit().await?.rows)
        };
        match created.await {
            // Somebody made it meanwhile.
            Err(FeatureError::Catalog(CatalogError::DatasetExists { .. }))
                if existing == Existing::Keep =>
            {
                Ok(0)
            }
            // What the catalog advises is not SQL.
            Err(FeatureError::Catalog(CatalogError::DatasetExists { name })) => {
                Err(FeatureError::TableExists { name })
            }
            other => other,
        }
    }

    /// Removes a table with all its versions.
    pub async fn drop_table(&self, name: &str, if_exists: bool) -> Result<(), FeatureError> {
        match self.catalog().datasets.remove(name).await {
            Err(CatalogError::UnknownDataset { .. }) if if_exists => Ok(()),
            other => Ok(other?),
        }
    }

    /// Begins an INSERT.
    pub async fn begin_insert(&self, insert: Insert) -> Result<Insertion, FeatureError> {
        let schema = insert.rows.schema();
        let datasets = &self.catalog().datasets;
        let writer = datasets
            .write(&insert.name, Arc::clone(&schema), WriteMode::AppendExisting)
            .await?;
        Ok(Insertion {
            schema,
            rows: insert.rows,
            writer,
        })
    }
}

impl Insertion {
    /// Adds the rows of the statement as it is.
    pub async fn add(&mut self) -> Result<(), FeatureError> {
        write(&mut self.writer, &self.schema, self.rows.clone()).await
    }

    /// Adds the rows of the statement for every row of values for its parameters.
    pub async fn add_bound(&mut self, values: &RecordBatch) -> Result<(), FeatureError> {
        let rows = self.rows.clone().bind(values)?;
        write(&mut self.writer, &self.schema, rows).await
    }

    /// Makes all rows visible at once; answers how many they are.
    pub async fn commit(self) -> Result<(u64, Dataset), FeatureError> {
        let rows = self.writer.rows();
        Ok((rows, self.writer.commit().await?))
    }
}

/// Values of parameters may have come in other types than the table's.
async fn write(
    writer: &mut DatasetWriter,
    schema: &SchemaRef,
    rows: Query,
) -> Result<(), FeatureError> {
    let mut batches = rows.execute().await?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let given = batch.schema();
        let mut types = given.fields().iter().zip(schema.fields());
        let batch = if types.all(|(given, wanted)| given.data_type() == wanted.data_type()) {
            batch
        } else {
            conform(batch, schema)?
        };
        writer.write(batch).await?;
    }
    Ok(())
}
