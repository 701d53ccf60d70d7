//! CommandStatementIngest: a stream of rows into a table, in the modes of `adbc_ingest`.

use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use tonic::Status;

use super::metadata::{CATALOG, SCHEMA};
use super::undescribed;
use crate::catalog::WriteMode;
use crate::flight::codec::{Inbound, InboundItem};
use crate::flight::error::FlightError;
use crate::flight::service::VerbContext;

/// Writes the stream as one version; answers its rows.
pub(super) async fn put(
    context: &VerbContext,
    command: CommandStatementIngest,
    mut inbound: Inbound,
) -> Result<u64, Status> {
    let mode = mode_of(&command)?;
    check_namespace("catalog", command.catalog.as_deref(), CATALOG)?;
    check_namespace("schema", command.schema.as_deref(), SCHEMA)?;
    let _place = context.incoming.admit()?;
    let datasets = &context.services.catalog.datasets;
    let schema = loop {
        match inbound.next().await? {
            Some(InboundItem::Schema(schema)) => break undescribed(schema),
            Some(_) => {}
            None => return Err(FlightError::NoSchema.into()),
        }
    };
    let mut writer = datasets.write(&command.table, schema, mode).await?;
    while let Some(item) = inbound.next().await? {
        if let InboundItem::Batch { batch, .. } = item {
            writer.write(batch).await?;
        }
    }
    // As an upload does: a call that was reset must not be committed within the same poll.
    tokio::task::yield_now().await;
    let rows = writer.rows();
    let dataset = writer.commit().await?;
    tracing::info!(
        dataset = dataset.name,
        version = dataset.version,
        rows,
        "committed an ingest"
    );
    Ok(rows)
}

/// How the table is written.
fn mode_of(command: &CommandStatementIngest) -> Result<WriteMode, FlightError> {
    if command.transaction_id.is_some() {
        return Err(FlightError::NoTransactions);
    }
    if command.temporary {
        return Err(FlightError::NotServed {
            what: "a temporary table",
        });
    }
    if let Some(option) = command.options.keys().next() {
        return Err(FlightError::BadField {
            message: "CommandStatementIngest",
            field: "options",
            received: format!("{option:?}"),
            hint: "there are none; leave it out",
        });
    }
    let options = command.table_definition_options.unwrap_or_default();
    let (missing, there) = (options.if_not_exist(), options.if_exists());
    match (missing, there) {
        (TableNotExistOption::Create, TableExistsOption::Fail) => Ok(WriteMode::Error),
        (TableNotExistOption::Create, TableExistsOption::Append) => Ok(WriteMode::Append),
        (TableNotExistOption::Create, TableExistsOption::Replace) => Ok(WriteMode::Overwrite),
        (TableNotExistOption::Fail, TableExistsOption::Append) => Ok(WriteMode::AppendExisting),
        (TableNotExistOption::Fail, TableExistsOption::Replace) => Ok(WriteMode::OverwriteExisting),
        (missing, there) => Err(FlightError::BadField {
            message: "CommandStatementIngest",
            field: "table_definition_options",
            received: format!("{} and {}", missing.as_str_name(), there.as_str_name()),
            hint: "say CREATE or FAIL where there is no table, and APPEND, REPLACE or (with CREATE) FAIL where there is one",
        }),
    }
}

fn check_namespace(kind: &'static str, named: Option<&str>, own: &str) -> Result<(), FlightError> {
    match named {
        Some(name) if !name.is_empty() && name != own => Err(FlightError::NoNamespace {
            kind,
            name: name.chars().take(80).collect(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_flight::sql::TableDefinitionOptions;

    fn ingest(missing: TableNotExistOption, there: TableExistsOption) -> CommandStatementIngest {
        CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: missing.into(),
                if_exists: there.into(),
            }),
            table: "t".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn the_modes_of_adbc_are_writes_of_a_dataset() {
        use TableExistsOption as There;
        use TableNotExistOption as Missing;
        for (missing, there, expected) in [
            (Missing::Create, There::Fail, WriteMode::Error),
            (Missing::Fail, There::Append, WriteMode::AppendExisting),
            (Missing::Create, There::Replace, WriteMode::Overwrite),
            (Missing::Create, There::Append, WriteMode::Append),
            (Missing::Fail, There::Replace, WriteMode::OverwriteExisting),
        ] {
            assert_eq!(mode_of(&ingest(missing, there)).unwrap(), expected);
        }
        for (missing, there) in [
            (Missing::Unspecified, There::Append),
            (Missing::Create, There::Unspecified),
            (Missing::Fail, There::Fail),
        ] {
            assert!(mode_of(&ingest(missing, there)).is_err());
        }
        let temporary = CommandStatementIngest {
            temporary: true,
            ..ingest(Missing::Create, There::Fail)
        };
        assert!(matches!(
            mode_of(&temporary),
            Err(FlightError::NotServed { .. })
        ));
    }
}
