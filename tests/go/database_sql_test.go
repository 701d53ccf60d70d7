package clients

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	_ "github.com/apache/arrow-adbc/go/adbc/sqldriver/flightsql"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"
)

// database opens a pool as a program that knows nothing of Arrow does.
func database(t *testing.T) *sql.DB {
	t.Helper()
	needServer(t)
	pool, err := sql.Open("flightsql", "uri=grpc://"+address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

func TestDatabaseSqlScansRows(t *testing.T) {
	people, pool := peopleTable(t), database(t)
	require.NoError(t, pool.PingContext(t.Context()))
	found, err := pool.QueryContext(t.Context(), "SELECT name, age FROM "+people+" ORDER BY age")
	require.NoError(t, err)
	defer found.Close()
	columns, err := found.ColumnTypes()
	require.NoError(t, err)
	require.Equal(t, "utf8", columns[0].DatabaseTypeName())
	type person struct {
		name sql.NullString
		age  int64
	}
	everybody := []person{}
	for found.Next() {
		var one person
		require.NoError(t, found.Scan(&one.name, &one.age))
		everybody = append(everybody, one)
	}
	require.NoError(t, found.Err())
	require.Equal(t, []person{
		{sql.NullString{}, 28}, {sql.NullString{String: "ann", Valid: true}, 39}, {sql.NullString{String: "bob", Valid: true}, 50},
	}, everybody)
}

func TestDatabaseSqlTakesArguments(t *testing.T) {
	people, pool := peopleTable(t), database(t)
	prepared, err := pool.PrepareContext(t.Context(), "SELECT name FROM "+people+" WHERE age > ? AND name < ?")
	require.NoError(t, err)
	defer prepared.Close()
	var name string
	require.NoError(t, prepared.QueryRowContext(t.Context(), int64(45), "z").Scan(&name))
	require.Equal(t, "bob", name)
	require.NoError(t, prepared.QueryRowContext(t.Context(), int64(30), "b").Scan(&name))
	require.Equal(t, "ann", name)
	require.ErrorIs(t, prepared.QueryRowContext(t.Context(), int64(99), "z").Scan(&name), sql.ErrNoRows)
	require.ErrorContains(t, prepared.QueryRowContext(t.Context(), int64(45)).Scan(&name), "expected 2 arguments, got 1")
}

func TestDatabaseSqlScansTheTypesThatItKnows(t *testing.T) {
	name, pool := fresh(t, "sql_types"), database(t)
	put(t, connect(t), name, batch(t, arrow.NewSchema([]arrow.Field{
		{Name: "truth", Type: arrow.FixedWidthTypes.Boolean}, {Name: "real", Type: arrow.PrimitiveTypes.Float64},
		{Name: "bytes", Type: arrow.BinaryTypes.Binary}, {Name: "day", Type: arrow.FixedWidthTypes.Date32},
		{Name: "moment", Type: arrow.FixedWidthTypes.Timestamp_us},
	}, nil), `[{"truth": true, "real": 2.5, "bytes": "AP8=", "day": "2026-11-22", "moment": "2026-11-22 10:30:00.123456Z"}]`))
	var (
		truth       bool
		real        float64
		bytes       []byte
		day, moment time.Time
	)
	require.NoError(t, pool.QueryRow("SELECT * FROM "+name).Scan(&truth, &real, &bytes, &day, &moment))
	require.Equal(t, []any{true, 2.5, []byte{0, 255}}, []any{truth, real, bytes})
	require.Equal(t, time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), day)
	require.Equal(t, time.Date(2026, 11, 22, 10, 30, 0, 123456000, time.UTC), moment)
}

func TestDatabaseSqlChangesTables(t *testing.T) {
	name, pool := fresh(t, "sql_changed"), database(t)
	_, err := pool.ExecContext(t.Context(), "CREATE TABLE "+name+" AS SELECT 1 AS a")
	require.NoError(t, err)
	result, err := pool.ExecContext(t.Context(), "INSERT INTO "+name+" VALUES (2), (3)")
	require.NoError(t, err)
	count, err := result.RowsAffected()
	require.NoError(t, err)
	require.EqualValues(t, 2, count)
	var total int64
	require.NoError(t, pool.QueryRow("SELECT sum(a) FROM "+name).Scan(&total))
	require.EqualValues(t, 6, total)
	_, err = pool.ExecContext(t.Context(), "DROP TABLE "+name)
	require.NoError(t, err)
}

func TestDatabaseSqlShowsTheServersErrors(t *testing.T) {
	pool := database(t)
	_, err := pool.QueryContext(t.Context(), "SELECT * FROM go_nowhere")
	requireStatus(t, err, adbc.StatusNotFound, `"go_nowhere"`)
	_, err = pool.BeginTx(t.Context(), nil)
	requireStatus(t, err, adbc.StatusNotImplemented, "")
}

func TestDatabaseSqlLeavesNoWorkBehindWhenRowsAreClosed(t *testing.T) {
	pool := database(t)
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	found, err := pool.QueryContext(ctx, endless)
	require.NoError(t, err)
	require.True(t, found.Next())
	require.NoError(t, found.Close())
	waitUntilIdle(t, "do_get")
}
