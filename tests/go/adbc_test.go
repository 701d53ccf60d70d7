package clients

import (
	"context"
	"errors"
	"testing"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
)

// open connects as a program with the ADBC driver does.
func open(t *testing.T, options map[string]string) adbc.Connection {
	t.Helper()
	needServer(t)
	with := map[string]string{adbc.OptionKeyURI: "grpc://" + address}
	for key, value := range options {
		with[key] = value
	}
	database, err := driver.NewDriver(memory.DefaultAllocator).NewDatabase(with)
	require.NoError(t, err)
	t.Cleanup(func() { _ = database.Close() })
	connection, err := database.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func statement(t *testing.T, connection adbc.Connection, sql string) adbc.Statement {
	t.Helper()
	made, err := connection.NewStatement()
	require.NoError(t, err)
	t.Cleanup(func() { _ = made.Close() })
	require.NoError(t, made.SetSqlQuery(sql))
	return made
}

// ask runs a query and gives its rows.
func ask(t *testing.T, connection adbc.Connection, sql string) []fields {
	t.Helper()
	reader, _, err := statement(t, connection, sql).ExecuteQuery(t.Context())
	require.NoError(t, err)
	return rows(t, collect(t, reader))
}

// change runs an update and gives how many rows it says it touched.
func change(t *testing.T, connection adbc.Connection, sql string) (int64, error) {
	t.Helper()
	return statement(t, connection, sql).ExecuteUpdate(t.Context())
}

// requireStatus asks for an error of the driver with this code and these words of the server.
func requireStatus(t *testing.T, err error, code adbc.Status, words string) {
	t.Helper()
	var raised adbc.Error
	require.True(t, errors.As(err, &raised), "%v", err)
	require.Equal(t, code, raised.Code, "%v", err)
	require.Contains(t, raised.Msg, words)
}

func peopleTable(t *testing.T) string {
	t.Helper()
	name := fresh(t, "adbc_people")
	put(t, connect(t), name, batch(t, peopleSchema, peopleRows))
	return name
}

func TestAdbcAnswersQueries(t *testing.T) {
	people := peopleTable(t)
	connection := open(t, nil)
	require.Equal(t, []fields{{"name": "ann"}, {"name": "bob"}}, ask(t, connection, "SELECT name FROM "+people+" WHERE name IS NOT NULL ORDER BY name"))
	require.Empty(t, ask(t, connection, "SELECT name FROM "+people+" WHERE age > 100"))
	require.Equal(t, []fields{{"n": 3e6}}, ask(t, connection, "SELECT count(*) AS n FROM generate_series(1, 3000000)"))
	reader, _, err := statement(t, connection, "SELECT value, 'text' AS words FROM generate_series(1, 2000000)").ExecuteQuery(t.Context())
	require.NoError(t, err)
	total := int64(0)
	for _, each := range collect(t, reader) {
		total += each.NumRows()
	}
	require.EqualValues(t, 2_000_000, total)
}

func TestAdbcBindsParameters(t *testing.T) {
	people := peopleTable(t)
	prepared := statement(t, open(t, nil), "SELECT name FROM "+people+" WHERE age > ? AND name < ?")
	require.NoError(t, prepared.Prepare(t.Context()))
	parameters, err := prepared.GetParameterSchema()
	require.NoError(t, err)
	require.Equal(t, []arrow.DataType{arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String},
		[]arrow.DataType{parameters.Field(0).Type, parameters.Field(1).Type})
	values := arrow.NewSchema([]arrow.Field{
		{Name: "0", Type: arrow.PrimitiveTypes.Int64}, {Name: "1", Type: arrow.BinaryTypes.String},
	}, nil)
	for _, each := range []struct {
		bound string
		found []fields
	}{
		{`[{"0": 30, "1": "z"}]`, []fields{{"name": "ann"}, {"name": "bob"}}},
		{`[{"0": 30, "1": "b"}]`, []fields{{"name": "ann"}}},
	} {
		require.NoError(t, prepared.Bind(t.Context(), batch(t, values, each.bound)))
		reader, _, err := prepared.ExecuteQuery(t.Context())
		require.NoError(t, err)
		require.ElementsMatch(t, each.found, rows(t, collect(t, reader)))
	}
	// With several rows of values, what the query answers for each of them.
	require.NoError(t, prepared.Bind(t.Context(), batch(t, values, `[{"0": 45, "1": "z"}, {"0": 30, "1": "b"}]`)))
	reader, _, err := prepared.ExecuteQuery(t.Context())
	require.NoError(t, err)
	require.Equal(t, []fields{{"name": "bob"}, {"name": "ann"}}, rows(t, collect(t, reader)))
}

func TestAdbcTellsWhatIsThere(t *testing.T) {
	people := peopleTable(t)
	connection := open(t, nil)
	schema, err := connection.GetTableSchema(t.Context(), nil, nil, people)
	require.NoError(t, err)
	require.Len(t, schema.Fields(), peopleSchema.NumFields())
	for place, field := range schema.Fields() {
		// Its description aside, a column is as it was uploaded.
		require.Equal(t, people, field.Metadata.ToMap()["ARROW:FLIGHT:SQL:TABLE_NAME"])
		field.Metadata = arrow.Metadata{}
		require.True(t, field.Equal(peopleSchema.Field(place)), "%s", field)
	}
	_, err = connection.GetTableSchema(t.Context(), nil, nil, "go_nowhere")
	requireStatus(t, err, adbc.StatusNotFound, "")

	reader, err := connection.GetTableTypes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []fields{{"table_type": "TABLE"}}, rows(t, collect(t, reader)))
	reader, err = connection.GetInfo(t.Context(), []adbc.InfoCode{adbc.InfoVendorName})
	require.NoError(t, err)
	told := collect(t, reader)
	require.EqualValues(t, 1, told[0].NumRows())
	require.Contains(t, told[0].Column(1).String(), "Volary")

	for depth, expected := range map[adbc.ObjectDepth][]any{
		adbc.ObjectDepthCatalogs:  {"volary"},
		adbc.ObjectDepthDBSchemas: {"volary", "public"},
		adbc.ObjectDepthTables:    {"volary", "public", people},
		adbc.ObjectDepthColumns:   {"volary", "public", people, "name", "age"},
	} {
		reader, err := connection.GetObjects(t.Context(), depth, nil, nil, &people, nil, nil)
		require.NoError(t, err)
		require.Equal(t, expected, names(rows(t, collect(t, reader))))
	}
}

// names gives every name in what GetObjects answers, from the outside in.
func names(objects []fields) []any {
	found := []any{}
	for _, catalog := range objects {
		found = append(found, catalog["catalog_name"])
		for _, schema := range inner(catalog, "catalog_db_schemas") {
			found = append(found, schema["db_schema_name"])
			for _, table := range inner(schema, "db_schema_tables") {
				found = append(found, table["table_name"])
				for _, column := range inner(table, "table_columns") {
					found = append(found, column["column_name"])
				}
			}
		}
	}
	return found
}

func inner(object fields, key string) []fields {
	listed, _ := object[key].([]any)
	found := []fields{}
	for _, each := range listed {
		found = append(found, each.(map[string]any))
	}
	return found
}

func TestAdbcRunsSchemasAndPartitions(t *testing.T) {
	people := peopleTable(t)
	connection := open(t, nil)
	schema, err := statement(t, connection, "SELECT count(*) AS n FROM "+people).(adbc.StatementExecuteSchema).ExecuteSchema(t.Context())
	require.NoError(t, err)
	require.Equal(t, "n", schema.Field(0).Name)

	schema, partitions, _, err := statement(t, connection, "SELECT age FROM "+people+" ORDER BY age").ExecutePartitions(t.Context())
	require.NoError(t, err)
	found := []fields{}
	for _, partition := range partitions.PartitionIDs {
		reader, err := connection.ReadPartition(t.Context(), partition)
		require.NoError(t, err)
		require.True(t, schema.Equal(reader.Schema()))
		found = append(found, rows(t, collect(t, reader))...)
	}
	require.Equal(t, []fields{{"age": 28.0}, {"age": 39.0}, {"age": 50.0}}, found)
}

func TestAdbcErrorsCarryTheServersWords(t *testing.T) {
	people := peopleTable(t)
	connection := open(t, nil)
	for _, each := range []struct {
		sql, words string
		code       adbc.Status
	}{
		{"SELECT nothing FROM " + people, `"nothing"`, adbc.StatusInvalidArgument},
		{"SELECT * FROM go_nowhere", `"go_nowhere"`, adbc.StatusNotFound},
		{"SELEC 1", "SELEC", adbc.StatusInvalidArgument},
	} {
		_, _, err := statement(t, connection, each.sql).ExecuteQuery(t.Context())
		requireStatus(t, err, each.code, each.words)
	}
	err := connection.(adbc.PostInitOptions).SetOption(adbc.OptionKeyAutoCommit, adbc.OptionValueDisabled)
	requireStatus(t, err, adbc.StatusNotImplemented, "transaction")
}

func TestAdbcCancelsByContext(t *testing.T) {
	connection := open(t, nil)
	ctx, giveUp := context.WithCancel(t.Context())
	reader, _, err := statement(t, connection, endless).ExecuteQuery(ctx)
	require.NoError(t, err)
	require.True(t, reader.Next())
	giveUp()
	for reader.Next() {
	}
	require.Error(t, reader.Err())
	reader.Release()
	waitUntilIdle(t, "do_get")
	require.Equal(t, []fields{{"one": 1.0}}, ask(t, connection, "SELECT 1 AS one"))
}

func TestAdbcReadsTheRestOfNothingAfterItIsReleased(t *testing.T) {
	connection := open(t, nil)
	reader, _, err := statement(t, connection, endless).ExecuteQuery(t.Context())
	require.NoError(t, err)
	require.True(t, reader.Next())
	reader.Release()
	waitUntilIdle(t, "do_get")
}

func TestAdbcChangesTables(t *testing.T) {
	name := fresh(t, "adbc_changed")
	connection := open(t, nil)
	_, err := change(t, connection, "CREATE TABLE "+name+" AS SELECT 1 AS a, 'x' AS b")
	require.NoError(t, err)
	_, err = change(t, connection, "CREATE TABLE "+name+" AS SELECT 1 AS a")
	requireStatus(t, err, adbc.StatusAlreadyExists, name)
	count, err := change(t, connection, "INSERT INTO "+name+" VALUES (2, 'y'), (3, NULL)")
	require.NoError(t, err)
	require.EqualValues(t, 2, count)

	prepared := statement(t, connection, "INSERT INTO "+name+" VALUES (?, ?)")
	require.NoError(t, prepared.Prepare(t.Context()))
	values := arrow.NewSchema([]arrow.Field{
		{Name: "0", Type: arrow.PrimitiveTypes.Int64}, {Name: "1", Type: arrow.BinaryTypes.String},
	}, nil)
	require.NoError(t, prepared.Bind(t.Context(), batch(t, values, `[{"0": 4, "1": "four"}, {"0": 5, "1": "five"}]`)))
	count, err = prepared.ExecuteUpdate(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, count)
	require.Equal(t, []fields{{"n": 5.0, "total": 15.0}}, ask(t, connection, "SELECT count(*) AS n, sum(a) AS total FROM "+name))

	_, err = change(t, connection, "DELETE FROM "+name)
	requireStatus(t, err, adbc.StatusInvalidArgument, "DELETE")
	_, err = change(t, connection, "DROP TABLE "+name)
	require.NoError(t, err)
	_, err = change(t, connection, "DROP TABLE IF EXISTS "+name)
	require.NoError(t, err)
}

func TestAdbcTrainsAndAsksAModel(t *testing.T) {
	name := fresh(t, "adbc_points")
	put(t, connect(t), name, points(t, 2000))
	connection := open(t, nil)
	_, err := change(t, connection, "CREATE MODEL go_sides OPTIONS (label = 'side', loss = 'binary_crossentropy', epochs = 8, batch_size = 64) AS SELECT * FROM "+name)
	require.NoError(t, err)
	right := ask(t, connection, "SELECT avg(CASE WHEN prediction = side THEN 1.0 ELSE 0.0 END) AS share FROM predict(model => 'go_sides', input => TABLE "+name+")")
	require.Greater(t, right[0]["share"], 0.9)
	require.Len(t, ask(t, connection, "SELECT predict('go_sides', x, y) AS answer FROM "+name+" LIMIT 5"), 5)
	_, err = change(t, connection, "DROP MODEL go_sides")
	require.NoError(t, err)
}

func TestAdbcLogsInAndKeepsSessions(t *testing.T) {
	connection := open(t, map[string]string{
		adbc.OptionKeyUsername: "an", adbc.OptionKeyPassword: "secret", driver.OptionCookieMiddleware: adbc.OptionValueEnabled,
	})
	options := connection.(adbc.GetSetOptions)
	require.NoError(t, options.SetOption(driver.OptionSessionOptionPrefix+"catalog", "volary"))
	catalog, err := options.GetOption(adbc.OptionKeyCurrentCatalog)
	require.NoError(t, err)
	require.Equal(t, "volary", catalog)
	require.Error(t, options.SetOption(driver.OptionSessionOptionPrefix+"flavour", "sweet"))
	require.Equal(t, []fields{{"one": 1.0}}, ask(t, connection, "SELECT 1 AS one"))
}

func TestAdbcRunsAQueryStepByStep(t *testing.T) {
	people := peopleTable(t)
	connection := open(t, nil)
	asked := statement(t, connection, "SELECT age FROM "+people+" ORDER BY age")
	require.NoError(t, asked.SetOption(adbc.OptionKeyIncremental, adbc.OptionValueEnabled))
	schema, partitions, _, err := asked.ExecutePartitions(t.Context())
	require.NoError(t, err)
	require.Equal(t, "age", schema.Field(0).Name)
	require.EqualValues(t, 1, partitions.NumPartitions)
	progress, err := asked.(adbc.GetSetOptions).GetOptionDouble(adbc.OptionKeyProgress)
	require.NoError(t, err)
	require.Equal(t, 1.0, progress)
	reader, err := connection.ReadPartition(t.Context(), partitions.PartitionIDs[0])
	require.NoError(t, err)
	require.Len(t, rows(t, collect(t, reader)), 3)
	_, partitions, _, err = asked.ExecutePartitions(t.Context())
	require.NoError(t, err)
	require.Zero(t, partitions.NumPartitions, "the query is done")
}
