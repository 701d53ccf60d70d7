//! What the server says of itself and of its SQL: CommandGetSqlInfo.
//!
//! Functions are those of the query engine's own registry; everything else is stated here and holds of every server.

use std::collections::{BTreeMap, BTreeSet};

use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedResultSetConcurrency, SqlSupportedResultSetType,
    SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions, SqlSupportsConvert,
    SqlTransactionIsolationLevel,
};

use crate::flight::error::FlightError;

/// Longest statement and longest name, in bytes and characters.
const STATEMENT_BYTES_MAX: i64 = 1 << 20;
const NAME_CHARACTERS_MAX: i64 = 128;
/// SupportedSqlGrammar and SupportedAnsi92SqlGrammarLevel: the lowest level of each.
const LOWEST_LEVEL: i32 = 1;

/// Words beyond SQL:92 that statements begin with or hold here.
const KEYWORDS: [&str; 12] = [
    "ARRAY", "DESCRIBE", "EXCLUDE", "EXPLAIN", "IF", "LATERAL", "LIMIT", "MODEL", "OFFSET",
    "OPTIONS", "QUALIFY", "REPLACE",
];

/// Groups of the registry's documentation, by the list that each is part of.
const NUMERIC: [&str; 1] = ["Math Functions"];
const TEXT: [&str; 4] = [
    "String Functions",
    "Binary String Functions",
    "Regular Expression Functions",
    "Hashing Functions",
];
const TIME: [&str; 1] = ["Time and Date Functions"];

/// `functions` is the registry, by group of its documentation.
pub(super) fn server_info(
    functions: &BTreeMap<&'static str, BTreeSet<String>>,
) -> Result<SqlInfoData, FlightError> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Volary");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    // Handles are the statements themselves and never end.
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, true);
    info.append(
        SqlInfo::SqlIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32,
    );
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    // Quoted names stand as they are written, for which the standard's list has no word of its own.
    info.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32,
    );
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(
        SqlInfo::SqlNullOrdering,
        SqlNullOrdering::SqlNullsSortedHigh as i32,
    );
    append_words(&mut info, functions);
    append_grammar(&mut info);
    append_limits(&mut info);
    info.append(SqlInfo::SqlTransactionsSupported, false);
    info.append(
        SqlInfo::SqlDefaultTransactionIsolation,
        // JDBC's driver reads a number of 64 bits.
        SqlTransactionIsolationLevel::SqlTransactionNone as i64,
    );
    info.append(
        SqlInfo::SqlSupportedTransactionsIsolationLevels,
        1 << SqlTransactionIsolationLevel::SqlTransactionNone as i32,
    );
    info.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    info.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    info.append(
        SqlInfo::SqlSupportedResultSetTypes,
        1 << SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32,
    );
    info.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly,
        1 << SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32,
    );
    info.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        0,
    );
    info.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
        0,
    );
    info.append(SqlInfo::SqlBatchUpdatesSupported, true);
    info.append(SqlInfo::SqlSavepointsSupported, false);
    info.append(SqlInfo::SqlNamedParametersSupported, false);
    info.append(SqlInfo::SqlLocatorsUpdateCopy, false);
    info.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
    info.build().map_err(|error| FlightError::Internal {
        doing: "listing metadata",
        reason: error.to_string(),
    })
}

fn append_words(
    info: &mut SqlInfoDataBuilder,
    functions: &BTreeMap<&'static str, BTreeSet<String>>,
) {
    let named = |groups: &[&str]| -> Vec<String> {
        let all: BTreeSet<&String> = groups
            .iter()
            .filter_map(|group| functions.get(group))
            .flatten()
            .collect();
        all.into_iter().cloned().collect()
    };
    let others: Vec<&str> = functions
        .keys()
        .filter(|group| {
            ![&NUMERIC[..], &TEXT[..], &TIME[..]]
                .concat()
                .contains(group)
        })
        .copied()
        .collect();
    info.append(SqlInfo::SqlKeywords, &KEYWORDS[..]);
    info.append(SqlInfo::SqlNumericFunctions, named(&NUMERIC));
    info.append(SqlInfo::SqlStringFunctions, named(&TEXT));
    info.append(SqlInfo::SqlDatetimeFunctions, named(&TIME));
    info.append(SqlInfo::SqlSystemFunctions, named(&others));
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlProcedureTerm, "");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlCatalogAtStart, true);
}

fn append_grammar(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
    info.append(SqlInfo::SqlSupportsConvert, conversions());
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    info.append(
        SqlInfo::SqlSupportedGroupBy,
        1 << SqlSupportedGroupBy::SqlGroupByUnrelated as i32
            | 1 << SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32,
    );
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    info.append(SqlInfo::SqlSupportedGrammar, LOWEST_LEVEL);
    info.append(SqlInfo::SqlAnsi92SupportedLevel, LOWEST_LEVEL);
    info.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
    info.append(
        SqlInfo::SqlOuterJoinsSupportLevel,
        // JDBC's driver reads a set.
        1 << SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32
            | 1 << SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
    );
    // No names of schemas or catalogs are made or given rights to; in queries and INSERT they may stand.
    info.append(SqlInfo::SqlSchemasSupportedActions, 0);
    info.append(SqlInfo::SqlCatalogsSupportedActions, 0);
    info.append(SqlInfo::SqlSupportedPositionedCommands, 0);
    info.append(SqlInfo::SqlSelectForUpdateSupported, false);
    info.append(SqlInfo::SqlStoredProceduresSupported, false);
    info.append(
        SqlInfo::SqlSupportedSubqueries,
        1 << SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32
            | 1 << SqlSupportedSubqueries::SqlSubqueriesInExists as i32
            | 1 << SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
    );
    info.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    info.append(
        SqlInfo::SqlSupportedUnions,
        1 << SqlSupportedUnions::SqlUnion as i32 | 1 << SqlSupportedUnions::SqlUnionAll as i32,
    );
}

/// 0 is no limit, or none that is known.
fn append_limits(info: &mut SqlInfoDataBuilder) {
    for (limit, value) in [
        (SqlInfo::SqlMaxBinaryLiteralLength, STATEMENT_BYTES_MAX),
        (SqlInfo::SqlMaxCharLiteralLength, STATEMENT_BYTES_MAX),
        (SqlInfo::SqlMaxColumnNameLength, 0),
        (SqlInfo::SqlMaxColumnsInGroupBy, 0),
        (SqlInfo::SqlMaxColumnsInIndex, 0),
        (SqlInfo::SqlMaxColumnsInOrderBy, 0),
        (SqlInfo::SqlMaxColumnsInSelect, 0),
        (SqlInfo::SqlMaxColumnsInTable, 20_000),
        (SqlInfo::SqlMaxConnections, 0),
        (SqlInfo::SqlMaxCursorNameLength, 0),
        (SqlInfo::SqlMaxIndexLength, 0),
        (SqlInfo::SqlDbSchemaNameLength, NAME_CHARACTERS_MAX),
        (SqlInfo::SqlMaxProcedureNameLength, 0),
        (SqlInfo::SqlMaxCatalogNameLength, NAME_CHARACTERS_MAX),
        (SqlInfo::SqlMaxRowSize, 0),
        (SqlInfo::SqlMaxStatementLength, STATEMENT_BYTES_MAX),
        (SqlInfo::SqlMaxStatements, 0),
        (SqlInfo::SqlMaxTableNameLength, NAME_CHARACTERS_MAX),
        (SqlInfo::SqlMaxTablesInSelect, 200),
        (SqlInfo::SqlMaxUsernameLength, 0),
    ] {
        info.append(limit, value);
    }
    info.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, false);
}

/// Which types a CAST takes to which: numbers and booleans to each other, everything to and from text, times to times.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert as Kind;
    let numbers = [
        Kind::SqlConvertBigint,
        Kind::SqlConvertBit,
        Kind::SqlConvertDecimal,
        Kind::SqlConvertFloat,
        Kind::SqlConvertInteger,
        Kind::SqlConvertNumeric,
        Kind::SqlConvertReal,
        Kind::SqlConvertSmallint,
        Kind::SqlConvertTinyint,
    ];
    let times = [Kind::SqlConvertDate, Kind::SqlConvertTimestamp];
    let texts = [Kind::SqlConvertChar, Kind::SqlConvertVarchar];
    let mut all = BTreeMap::new();
    let mut add = |from: &[Kind], to: &[Kind]| {
        for kind in from {
            let known: &mut Vec<i32> = all.entry(*kind as i32).or_default();
            known.extend(to.iter().map(|kind| *kind as i32));
        }
    };
    add(&numbers, &numbers);
    add(&numbers, &texts);
    add(&times, &times);
    add(&times, &texts);
    add(&texts, &numbers);
    add(&texts, &times);
    add(&texts, &texts);
    add(&[Kind::SqlConvertTime], &[Kind::SqlConvertTime]);
    add(&[Kind::SqlConvertTime], &texts);
    all
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn every_word_that_the_standard_asks_for_is_answered_from_the_registry_or_here() {
        let functions = BTreeMap::from([
            (
                "Math Functions",
                BTreeSet::from(["abs".to_owned(), "sqrt".to_owned()]),
            ),
            ("String Functions", BTreeSet::from(["lower".to_owned()])),
            (
                "Time and Date Functions",
                BTreeSet::from(["now".to_owned()]),
            ),
            (
                "Array Functions",
                BTreeSet::from(["array_length".to_owned()]),
            ),
        ]);
        let info = server_info(&functions).unwrap();
        let all = info.record_batch([]).unwrap();
        assert!(all.num_rows() > 80, "{}", all.num_rows());
        let asked = [
            SqlInfo::SqlNumericFunctions as u32,
            SqlInfo::SqlSystemFunctions as u32,
        ];
        let shown =
            arrow::util::pretty::pretty_format_batches(&[info.record_batch(asked).unwrap()])
                .unwrap()
                .to_string();
        for name in ["abs", "sqrt", "array_length"] {
            assert!(shown.contains(name), "{shown}");
        }
        assert!(!shown.contains("lower"), "{shown}");
    }

    #[test]
    fn answers_have_the_types_that_jdbc_s_driver_reads() {
        let info = server_info(&BTreeMap::new()).unwrap();
        let shown = |asked: SqlInfo| {
            let batch = info.record_batch([asked as u32]).unwrap();
            let value = batch.column(1).as_union().value(0);
            let kind = batch.column(1).as_union().type_id(0);
            (
                kind,
                arrow::util::display::array_value_to_string(&value, 0).unwrap(),
            )
        };
        let (bigint, bitmask) = (2, 3);
        assert_eq!(
            shown(SqlInfo::SqlDefaultTransactionIsolation),
            (bigint, "0".to_owned())
        );
        assert_eq!(
            shown(SqlInfo::SqlOuterJoinsSupportLevel),
            (bitmask, "6".to_owned())
        );
    }
}
