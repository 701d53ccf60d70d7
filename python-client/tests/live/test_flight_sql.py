"""Other people's drivers: ADBC over Flight SQL."""

from __future__ import annotations

import pytest

flight_sql = pytest.importorskip("adbc_driver_flightsql.dbapi", reason="the ADBC driver asks the questions")
manager = pytest.importorskip("adbc_driver_manager")


@pytest.fixture
def cursor(client, cluster):
    client.put("drivers", {"a": [1, 2, 3], "b": ["x", "y", None]}, mode="overwrite")
    with flight_sql.connect(cluster.url, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


def test_a_query_answers_exactly_the_schema_it_promised(cursor, client):
    cursor.execute("SELECT a, b FROM drivers ORDER BY a")
    table = cursor.fetch_arrow_table()
    assert table.to_pydict() == {"a": [1, 2, 3], "b": ["x", "y", None]}
    # Aggregates over columns without nulls are where promise and stream used to differ elsewhere.
    cursor.execute("SELECT count(*) AS n, sum(a) AS total, min(b) AS least FROM drivers")
    assert cursor.fetch_arrow_table().to_pydict() == {"n": [3], "total": [6], "least": ["x"]}
    promised = client.sql("SELECT count(*) AS n, sum(a) AS total FROM drivers")
    assert promised.schema.equals(promised.to_arrow().schema)


def test_prepared_statements_take_parameters(cursor):
    cursor.execute("SELECT b FROM drivers WHERE a = ?", parameters=(2,))
    assert cursor.fetchall() == [("y",)]
    cursor.execute("SELECT a + $1 AS c FROM drivers WHERE a > $2 ORDER BY a", parameters=(10, 1))
    assert cursor.fetchall() == [(12,), (13,)]


def test_metadata_names_catalogs_tables_and_columns(cursor):
    connection = cursor.connection
    objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    tables = {
        table["table_name"]: [column["column_name"] for column in table["table_columns"]]
        for catalog in objects
        for schema in catalog["catalog_db_schemas"]
        for table in schema["db_schema_tables"]
    }
    assert tables["drivers"] == ["a", "b"]
    assert connection.adbc_get_table_types()
    assert connection.adbc_get_table_schema("drivers").names == ["a", "b"]
    info = connection.adbc_get_info()
    assert "volary" in str(info["vendor_name"]).lower()


def test_a_wrong_statement_is_a_programming_error_with_our_words(cursor):
    with pytest.raises(manager.Error, match="nothing"):
        cursor.execute("SELECT nothing FROM drivers")
    with pytest.raises(manager.Error):
        cursor.execute("DELETE FROM drivers")
        cursor.fetchall()
    cursor.execute("SELECT 1 AS one")
    assert cursor.fetch_arrow_table().to_pydict() == {"one": [1]}


def test_the_model_answers_drivers_too(cursor, census_model):
    cursor.execute("SELECT count(*) FROM census_test WHERE age > ?", parameters=(60,))
    assert cursor.fetchone()[0] > 0
