"""What SQL changes: tables and models, by the client and by ADBC."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import volary
from raw_flight import fields

flight_sql = pytest.importorskip("adbc_driver_flightsql.dbapi", reason="the ADBC driver asks the questions")
manager = pytest.importorskip("adbc_driver_manager")


@pytest.fixture
def tables(client):
    """Names of tables and models that are gone before and after a story."""
    names = ["changed", "changed_too", "changed_scores"]

    def forget():
        for name in names:
            client.execute(f"DROP TABLE IF EXISTS {name}")
            client.execute(f"DROP MODEL IF EXISTS {name}")

    forget()
    yield names
    forget()


@pytest.fixture
def cursor(tables, cluster):
    with flight_sql.connect(cluster.url, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


def rows(client, sql):
    return client.sql(sql).to_arrow().to_pydict()


def test_a_table_is_made_filled_read_and_dropped(client, tables):
    assert client.execute("CREATE TABLE changed (id INT NOT NULL, name TEXT)") == 0
    assert client.table("changed").schema.equals(
        pa.schema([pa.field("id", pa.int32(), nullable=False), pa.field("name", pa.string())])
    )
    assert client.execute("INSERT INTO changed VALUES (1, 'Ada'), (2, NULL)") == 2
    assert client.execute("INSERT INTO changed (id) SELECT id + 10 FROM changed") == 2
    assert rows(client, "SELECT * FROM changed ORDER BY id") == {
        "id": [1, 2, 11, 12],
        "name": ["Ada", None, None, None],
    }
    assert client.execute("CREATE OR REPLACE TABLE changed AS SELECT id FROM changed WHERE id < 10") == 2
    assert client.table("changed", 2).to_arrow().num_rows == 4
    with pytest.raises(volary.VolaryError, match="exists; write CREATE OR REPLACE"):
        client.execute("CREATE TABLE changed AS SELECT 1 AS a")
    assert client.execute("CREATE TABLE IF NOT EXISTS changed AS SELECT 1 AS a") == 0
    client.execute("DROP TABLE changed")
    with pytest.raises(volary.errors.NotFoundError, match="changed"):
        client.execute("DROP TABLE changed")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE changed SET id = 1", "CREATE OR REPLACE TABLE"),
        ("DELETE FROM changed", "CREATE OR REPLACE TABLE"),
        ("BEGIN", "no transactions"),
        ("COPY changed TO '/tmp/x.parquet'", "COPY"),
        ("CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/etc'", "files"),
        ("SELECT 1", "is a query"),
        ("CREATE MODEL changed OPTIONS (epoch = 1) AS SELECT 1 AS a", 'did you mean "epochs"'),
        ("CREATE MODEL changed AS SELECT 1 AS a, 2 AS b", "label"),
        ("CREATE TABL changed", "Expected"),
    ],
)
def test_what_is_not_taken_is_refused_with_what_to_write(client, tables, statement, words):
    with pytest.raises(volary.VolaryError, match=words):
        client.execute(statement)


def test_adbc_runs_a_statement_once_down_the_query_path_too(cursor, client):
    cursor.execute("CREATE TABLE changed AS SELECT * FROM (VALUES (1, 'x'), (2, 'y')) AS v(a, b)")
    assert cursor.rowcount == 2
    cursor.execute("INSERT INTO changed VALUES (3, 'z')")
    # Done when the call returns, whether or not its answer is fetched.
    assert client.table("changed").to_arrow().num_rows == 3
    cursor.execute("INSERT INTO changed VALUES (?, ?)", parameters=(4, None))
    assert client.table("changed").to_arrow().num_rows == 4
    cursor.executemany("INSERT INTO changed VALUES (?, ?)", [(number, str(number)) for number in range(100)])
    assert rows(client, "SELECT count(*) AS n, max(a) AS most FROM changed") == {"n": [104], "most": [99]}
    assert [each.version for each in client.datasets() if each.name == "changed"] == [3]
    # Without preparing, the statement goes as a query, runs before its answer is read, and answers its rows.
    with manager.AdbcStatement(cursor.connection.adbc_connection) as statement:
        statement.set_sql_query("INSERT INTO changed SELECT * FROM changed WHERE a = 2 LIMIT 1")
        promised = statement.execute_schema()
        assert pa.Schema._import_from_c(promised.address).names == ["rows"]
        handle, _ = statement.execute_query()
        assert rows(client, "SELECT count(*) AS n FROM changed") == {"n": [105]}
        answer = pa.RecordBatchReader._import_from_c(handle.address).read_all()
        assert answer.to_pydict() == {"rows": [1]}
        assert rows(client, "SELECT count(*) AS n FROM changed") == {"n": [105]}
    with pytest.raises(manager.Error, match="many"):
        cursor.executemany("INSERT INTO changed VALUES (?, ?)", [("1", "x"), ("many", "y")])
    assert rows(client, "SELECT count(*) AS n FROM changed") == {"n": [105]}
    cursor.execute("DROP TABLE changed")


def test_adbc_ingests_in_every_mode(cursor, client):
    two = pa.table({"a": [1, 2], "b": ["x", None]})
    with pytest.raises(manager.Error, match="changed"):
        cursor.adbc_ingest("changed", two, mode="append")
    assert cursor.adbc_ingest("changed", two, mode="create") == 2
    with pytest.raises(manager.Error, match="exists"):
        cursor.adbc_ingest("changed", two, mode="create")
    assert cursor.adbc_ingest("changed", two, mode="append") == 2
    assert cursor.adbc_ingest("changed", two, mode="create_append") == 2
    assert client.table("changed").to_arrow().num_rows == 6
    assert cursor.adbc_ingest("changed", pa.table({"c": [1.5]}), mode="replace") == 1
    assert client.table("changed").to_arrow().to_pydict() == {"c": [1.5]}
    assert (
        cursor.adbc_ingest("changed_too", two, mode="create_append", catalog_name="volary", db_schema_name="public")
        == 2
    )
    with pytest.raises(manager.Error, match="one catalog"):
        cursor.adbc_ingest("changed_too", two, mode="append", catalog_name="other")
    with pytest.raises(manager.Error, match="temporary"):
        cursor.adbc_ingest("changed_too", two, mode="create", temporary=True)


def test_a_prepared_query_answers_for_every_row_of_values(cursor):
    values = pa.record_batch({"wanted": [2, 5, 1]})
    cursor.execute("CREATE TABLE changed AS SELECT * FROM (VALUES (1, 'x'), (2, 'y')) AS v(a, b)")
    cursor.execute("SELECT b FROM changed WHERE a = ?", parameters=values)
    assert cursor.fetchall() == [("y",), ("x",)]


def test_a_model_is_made_asked_and_dropped_in_sql(client, tables, census):
    train, test = census
    client.put("changed", train, mode="overwrite")
    client.put("changed_too", test, mode="overwrite")
    create = """
        CREATE MODEL changed
        OPTIONS (label = 'income', epochs = 2, metrics = 'auc', validation_split = 0.1, seed = 7)
        AS SELECT * FROM changed
    """
    trained = client.execute(create)
    assert 0.85 * len(train) < trained <= len(train)
    assert client.model("changed").evaluate(client.table("changed_too"))["auc"] > 0.85
    # The same answers by every way to ask.
    asked = client.sql(
        "SELECT p.prediction, p.probability FROM predict(model => 'changed', input => TABLE changed_too) AS p"
    ).to_arrow()
    expected = client.model("changed").predict(test)
    assert sorted(asked["probability"].to_pylist()) == sorted(pa.array(expected["probability"]).to_pylist())
    share = rows(
        client,
        "SELECT avg(CASE WHEN prediction = income THEN 1.0 ELSE 0.0 END) AS share "
        "FROM predict(model => 'changed', version => 1, input => (SELECT * FROM changed_too WHERE age > 30))",
    )
    assert share["share"][0] > 0.75
    # Models have versions: the next one.
    assert client.execute(create.replace("CREATE MODEL", "CREATE OR REPLACE MODEL")) == trained
    assert client.execute(create.replace("CREATE MODEL", "CREATE MODEL IF NOT EXISTS")) == 0
    assert [each.version for each in client.models() if each.name == "changed"] == [2]
    with pytest.raises(volary.VolaryError, match="one class"):
        client.execute(
            "CREATE MODEL changed_scores OPTIONS (label = 'income') AS SELECT * FROM changed WHERE income = '>50K'"
        )
    client.execute("DROP MODEL changed")
    with pytest.raises(volary.errors.NotFoundError):
        client.execute("DROP MODEL changed")


def test_a_number_is_predicted_without_a_word_about_the_network(client, tables):
    client.execute(
        "CREATE TABLE changed AS SELECT x, x % 7 AS y, x * 2.0 + x % 7 AS z FROM generate_series(1, 2000) AS s(x)"
    )
    made = "CREATE MODEL changed OPTIONS (label = 'z', model = 'linear', epochs = 30, batch_size = 32) AS SELECT * FROM changed"
    assert client.execute(made) == 2000
    manifest = client.models()
    assert "changed" in [each.name for each in manifest]
    assert (
        client.sql("SELECT prediction FROM predict(model => 'changed', input => TABLE changed)").to_arrow().num_rows
        == 2000
    )


def test_a_caller_that_dies_cancels_the_training(client, cluster, tables):
    client.execute("CREATE TABLE changed AS SELECT x, x * 2.0 AS y FROM generate_series(1, 2000) AS s(x)")
    create = "CREATE MODEL changed OPTIONS (label = 'y', epochs = 1000000) AS SELECT * FROM changed"
    caller = subprocess.Popen(
        [sys.executable, "-c", f"import volary; volary.connect({cluster.url!r}).execute({create!r})"]
    )
    try:
        job = None
        while job is None:
            assert caller.poll() is None, "the caller ended before its job began"
            job = next((each for each in client.jobs() if each.name == "changed" and each.state == "RUNNING"), None)
    finally:
        caller.kill()
        caller.wait()
    with pytest.raises(volary.errors.CancelledError):
        client.job(job.id).wait()


def test_a_ticket_of_a_change_reads_its_answer_again_and_changes_nothing(client, cluster, tables):
    client.execute("CREATE TABLE changed (a INT)")
    bare = flight.connect(cluster.url)
    command = b'{"@type": "arrow.flight.protocol.sql.CommandStatementQuery", "query": "INSERT INTO changed VALUES (7)"}'
    descriptor = flight.FlightDescriptor.for_command(command)
    assert bare.get_schema(descriptor).schema.names == ["rows"]
    info = bare.get_flight_info(descriptor)
    for _ in range(2):
        answer = bare.do_get(info.endpoints[0].ticket).read_all()
        assert answer.schema.equals(info.schema)
        assert answer.to_pydict() == {"rows": [1]}
    # A command is a ticket too, but reading changes nothing.
    with pytest.raises(pa.ArrowInvalid, match="as an update"):
        bare.do_get(flight.Ticket(command)).read_all()
    assert rows(client, "SELECT a FROM changed") == {"a": [7]}
    for path in ("volary.v1.Query", "/volary.v1.Query"):
        query = b'{"@type": "%s", "sql": "DROP TABLE changed"}' % path.encode()
        with pytest.raises(pa.ArrowInvalid, match="as an update"):
            bare.get_flight_info(flight.FlightDescriptor.for_command(query))


def test_metadata_is_narrowed_by_patterns_and_tells_what_the_server_does(cursor, client):
    client.execute("CREATE TABLE changed (a INT NOT NULL, b TEXT)")
    client.execute("CREATE TABLE changed_too (c DOUBLE)")

    def names(**filters):
        catalogs = cursor.connection.adbc_get_objects(depth="tables", **filters).read_all().to_pylist()
        schemas = [schema for catalog in catalogs for schema in catalog["catalog_db_schemas"]]
        return sorted(table["table_name"] for schema in schemas for table in schema["db_schema_tables"])

    assert names(table_name_filter="changed%") == ["changed", "changed_too"]
    assert names(table_name_filter="change_") == ["changed"]
    assert names(table_name_filter="changed%", catalog_filter="volary", db_schema_filter="pub%") == names(
        table_name_filter="changed%"
    )
    assert names(table_name_filter="changed%", table_types_filter=["VIEW"]) == []
    assert names(catalog_filter="") == []
    assert names(db_schema_filter="other") == []
    assert cursor.connection.adbc_get_table_schema(
        "changed", catalog_filter="volary", db_schema_filter="public"
    ).equals(pa.schema([pa.field("a", pa.int32(), nullable=False), pa.field("b", pa.string())]))
    info = cursor.connection.adbc_get_info()
    assert info["vendor_name"] == "Volary"


def test_values_that_come_with_an_update_count_and_not_those_of_its_handle(cluster, client, tables):
    """A driver that binds first and then sends rows along shows the handle that holds the first ones."""
    client.execute("CREATE TABLE changed (a BIGINT)")

    def message(kind, **values):
        return json.dumps({"@type": f"arrow.flight.protocol.sql.{kind}", **values}).encode()

    def put(kind, handle, rows):
        handle = base64.b64encode(handle).decode()
        descriptor = flight.FlightDescriptor.for_command(message(kind, prepared_statement_handle=handle))
        writer, answers = connection.do_put(descriptor, rows.schema)
        writer.write_table(rows)
        writer.done_writing()
        answer = answers.read().to_pybytes()
        writer.close()
        return answer

    with flight.connect(cluster.url) as connection:
        query = message("ActionCreatePreparedStatementRequest", query="INSERT INTO changed VALUES (?)")
        [prepared] = connection.do_action(flight.Action("CreatePreparedStatement", query))
        # Of the answer in its Any, and of the answer of a binding: the handle is field 1 of both.
        prepared = fields(fields(prepared.body.to_pybytes())[2][0])[1][0]
        bound = fields(put("CommandPreparedStatementQuery", prepared, pa.table({"a": [1]})))[1][0]
        assert bound != prepared
        put("CommandPreparedStatementUpdate", bound, pa.table({"a": [2, 3]}))
    assert sorted(client.table("changed").to_arrow()["a"].to_pylist()) == [2, 3]
