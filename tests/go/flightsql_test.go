package clients

import (
	"maps"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func connectSQL(t *testing.T) *flightsql.Client {
	t.Helper()
	needServer(t)
	client, err := flightsql.NewClient(address, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// told reads what a flight of Flight SQL holds, and that its schema is the promised one.
func told(t *testing.T, client *flightsql.Client, info *flight.FlightInfo, err error) []fields {
	t.Helper()
	require.NoError(t, err)
	promised, err := flight.DeserializeSchema(info.Schema, memory.DefaultAllocator)
	require.NoError(t, err)
	found := []fields{}
	for _, endpoint := range info.Endpoint {
		reader, err := client.DoGet(t.Context(), endpoint.Ticket)
		require.NoError(t, err)
		require.True(t, promised.Equal(reader.Schema()), "%s\n%s", promised, reader.Schema())
		found = append(found, rows(t, collect(t, reader))...)
	}
	return found
}

func TestFlightSqlTellsItsCatalog(t *testing.T) {
	people, client := peopleTable(t), connectSQL(t)
	ctx := t.Context()
	info, err := client.GetCatalogs(ctx)
	require.Equal(t, []fields{{"catalog_name": "volary"}}, told(t, client, info, err))
	info, err = client.GetDBSchemas(ctx, &flightsql.GetDBSchemasOpts{})
	require.Equal(t, []fields{{"catalog_name": "volary", "db_schema_name": "public"}}, told(t, client, info, err))
	info, err = client.GetTables(ctx, &flightsql.GetTablesOpts{TableNameFilterPattern: &people})
	require.Equal(t, []fields{
		{"catalog_name": "volary", "db_schema_name": "public", "table_name": people, "table_type": "TABLE"},
	}, told(t, client, info, err))
	info, err = client.GetTables(ctx, &flightsql.GetTablesOpts{TableNameFilterPattern: &people, IncludeSchema: true})
	require.NotEmpty(t, told(t, client, info, err)[0]["table_schema"])
	info, err = client.GetTableTypes(ctx)
	require.Equal(t, []fields{{"table_type": "TABLE"}}, told(t, client, info, err))
	info, err = client.GetXdbcTypeInfo(ctx, nil)
	require.NotEmpty(t, told(t, client, info, err))
	table := flightsql.TableRef{Table: people}
	info, err = client.GetPrimaryKeys(ctx, table)
	require.Empty(t, told(t, client, info, err))
	info, err = client.GetExportedKeys(ctx, table)
	require.Empty(t, told(t, client, info, err))
	info, err = client.GetImportedKeys(ctx, table)
	require.Empty(t, told(t, client, info, err))
	info, err = client.GetCrossReference(ctx, table, table)
	require.Empty(t, told(t, client, info, err))
	info, err = client.GetSqlInfo(ctx, []flightsql.SqlInfo{flightsql.SqlInfoFlightSqlServerName})
	require.NoError(t, err)
	reader, err := client.DoGet(ctx, info.Endpoint[0].Ticket)
	require.NoError(t, err)
	require.Contains(t, collect(t, reader)[0].Column(1).String(), "Volary")
}

func TestFlightSqlSaysWhatItCanDo(t *testing.T) {
	client := connectSQL(t)
	expected := map[flightsql.SqlInfo]any{
		flightsql.SqlInfoFlightSqlServerReadOnly:      false,
		flightsql.SqlInfoFlightSqlServerSql:           true,
		flightsql.SqlInfoFlightSqlServerSubstrait:     false,
		flightsql.SqlInfoFlightSqlServerTransaction:   0.0,
		flightsql.SqlInfoFlightSqlServerCancel:        true,
		flightsql.SqlInfoFlightSqlServerBulkIngestion: true,
		flightsql.SqlInfoDDLTable:                     true,
		flightsql.SqlInfoDDLSchema:                    false,
	}
	asked := slices.Collect(maps.Keys(expected))
	info, err := client.GetSqlInfo(t.Context(), asked)
	found := map[flightsql.SqlInfo]any{}
	for _, row := range told(t, client, info, err) {
		// A value of a union, as JSON: which of its types it has, then the value.
		found[flightsql.SqlInfo(row["info_name"].(float64))] = row["value"].([]any)[1]
	}
	require.Equal(t, expected, found)
}

func TestFlightSqlIngestsInEveryMode(t *testing.T) {
	name, client := fresh(t, "ingested"), connectSQL(t)
	people := batch(t, peopleSchema, peopleRows)
	type options = flightsql.TableDefinitionOptions
	ingest := func(with *options) (int64, error) {
		reader, err := array.NewRecordReader(peopleSchema, []arrow.RecordBatch{people})
		require.NoError(t, err)
		return client.ExecuteIngest(t.Context(), reader, &flightsql.ExecuteIngestOpts{TableDefinitionOptions: with, Table: name})
	}
	rowsNow := func() any {
		info, err := client.Execute(t.Context(), "SELECT count(*) AS n FROM "+name)
		return told(t, client, info, err)[0]["n"]
	}
	_, err := ingest(&options{
		IfNotExist: flightsql.TableDefinitionOptionsTableNotExistOptionFail, IfExists: flightsql.TableDefinitionOptionsTableExistsOptionAppend,
	})
	require.Equal(t, codes.NotFound, status.Code(err), "%v", err)
	create := &options{
		IfNotExist: flightsql.TableDefinitionOptionsTableNotExistOptionCreate, IfExists: flightsql.TableDefinitionOptionsTableExistsOptionFail,
	}
	count, err := ingest(create)
	require.NoError(t, err)
	require.EqualValues(t, 3, count)
	_, err = ingest(create)
	require.Equal(t, codes.AlreadyExists, status.Code(err), "%v", err)
	count, err = ingest(&options{
		IfNotExist: flightsql.TableDefinitionOptionsTableNotExistOptionCreate, IfExists: flightsql.TableDefinitionOptionsTableExistsOptionAppend,
	})
	require.NoError(t, err)
	require.EqualValues(t, 3, count)
	require.Equal(t, 6.0, rowsNow())
	_, err = ingest(&options{
		IfNotExist: flightsql.TableDefinitionOptionsTableNotExistOptionCreate, IfExists: flightsql.TableDefinitionOptionsTableExistsOptionReplace,
	})
	require.NoError(t, err)
	require.Equal(t, 3.0, rowsNow())
}

func TestFlightSqlPreparesAndUpdates(t *testing.T) {
	name, client := fresh(t, "updated"), connectSQL(t)
	_, err := client.ExecuteUpdate(t.Context(), "CREATE TABLE "+name+" AS SELECT 1 AS a")
	require.NoError(t, err)
	prepared, err := client.Prepare(t.Context(), "INSERT INTO "+name+" VALUES (?)")
	require.NoError(t, err)
	update, known := prepared.IsUpdate()
	require.True(t, known && update)
	prepared.SetParameters(batch(t, arrow.NewSchema([]arrow.Field{{Name: "0", Type: arrow.PrimitiveTypes.Int64}}, nil), `[{"0": 2}, {"0": 3}]`))
	count, err := prepared.ExecuteUpdate(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, count)
	require.NoError(t, prepared.Close(t.Context()))

	prepared, err = client.Prepare(t.Context(), "SELECT a FROM "+name+" WHERE a > ? ORDER BY a")
	require.NoError(t, err)
	update, known = prepared.IsUpdate()
	require.True(t, known && !update)
	require.Equal(t, "a", prepared.DatasetSchema().Field(0).Name)
	prepared.SetParameters(batch(t, prepared.ParameterSchema(), `[{"$1": 1}]`))
	info, err := prepared.Execute(t.Context())
	require.Equal(t, []fields{{"a": 2.0}, {"a": 3.0}}, told(t, client, info, err))
	require.NoError(t, prepared.Close(t.Context()))
}

func TestFlightSqlRefusesTransactionsPolitely(t *testing.T) {
	client := connectSQL(t)
	_, err := client.BeginTransaction(t.Context())
	require.Equal(t, codes.Unimplemented, status.Code(err))
	require.ErrorContains(t, err, "transaction")
}

func TestFlightSqlPollsAndCancels(t *testing.T) {
	client := connectSQL(t)
	poll, err := client.ExecutePoll(t.Context(), "SELECT 1 AS one", nil)
	require.NoError(t, err)
	require.Nil(t, poll.FlightDescriptor, "a query is ready at once")
	require.Equal(t, []fields{{"one": 1.0}}, told(t, client, poll.Info, nil))

	info, err := client.Execute(t.Context(), endless)
	require.NoError(t, err)
	reader, err := client.DoGet(t.Context(), info.Endpoint[0].Ticket)
	require.NoError(t, err)
	require.True(t, reader.Next())
	result, err := client.CancelQuery(t.Context(), info)
	require.NoError(t, err)
	require.NotEqual(t, flightsql.CancelResultNotCancellable, result)
	for reader.Next() {
	}
	require.Equal(t, codes.Canceled, status.Code(reader.Err()), "%v", reader.Err())
	waitUntilIdle(t, "do_get")
}
