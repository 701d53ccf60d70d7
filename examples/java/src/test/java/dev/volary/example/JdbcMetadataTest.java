package dev.volary.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Types;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** What DBeaver, Tableau and others ask before anyone types a query. */
@ExtendWith(Server.class)
class JdbcMetadataTest {

  private static Connection connection;
  private static DatabaseMetaData metadata;

  @BeforeAll
  static void connect() throws Exception {
    try (Volary volary = new Volary(Server.url())) {
      Jdbc.writeTypes(volary);
      Census.upload(volary, "java_jdbc_census");
    }
    connection = Jdbc.connect();
    metadata = connection.getMetaData();
  }

  @AfterAll
  static void disconnect() throws SQLException {
    connection.close();
  }

  @Test
  void theServerSaysWhatItIs() throws SQLException {
    assertEquals("Volary", metadata.getDatabaseProductName());
    assertFalse(metadata.getDatabaseProductVersion().isEmpty());
    assertEquals("\"", metadata.getIdentifierQuoteString());
    assertFalse(metadata.supportsTransactions());
    assertEquals(connection, metadata.getConnection());
    assertTrue(metadata.getURL().startsWith("jdbc:arrow-flight-sql://"));
  }

  @Test
  void catalogsSchemasAndTableTypesAreListed() throws SQLException {
    assertEquals(List.of(List.of("volary")), Jdbc.rows(metadata.getCatalogs()));
    assertEquals(List.of(List.of("public", "volary")), Jdbc.rows(metadata.getSchemas()));
    assertEquals(List.of(List.of("public", "volary")), Jdbc.rows(metadata.getSchemas("volary", "pub%")));
    assertEquals(List.of(), Jdbc.rows(metadata.getSchemas("volary", "other")));
    assertEquals(List.of(List.of("TABLE")), Jdbc.rows(metadata.getTableTypes()));
  }

  @Test
  void tablesAreFoundByPattern() throws SQLException {
    assertTrue(tables(null, null, "%", null).containsAll(List.of(Jdbc.TYPES, "java_jdbc_census")));
    assertTrue(tables(null, null, null, null).contains(Jdbc.TYPES));
    assertEquals(Set.of(Jdbc.TYPES, "java_jdbc_census"), tables("volary", "public", "java_jdbc%", new String[] {"TABLE"}));
    assertEquals(Set.of(Jdbc.TYPES), tables("volary", "public", "java_jdbc_type_", new String[] {"TABLE", "VIEW"}));
    assertEquals(Set.of(), tables(null, null, "java_jdbc%", new String[] {"VIEW"}));
    assertEquals(Set.of(), tables("other", null, "%", null));
    assertEquals(Set.of(), tables(null, "other", "%", null));
    try (ResultSet tables = metadata.getTables(null, null, Jdbc.TYPES, null)) {
      assertTrue(tables.next());
      assertEquals("volary", tables.getString("TABLE_CAT"));
      assertEquals("public", tables.getString("TABLE_SCHEM"));
      assertEquals("TABLE", tables.getString("TABLE_TYPE"));
    }
  }

  private static Set<String> tables(String catalog, String schema, String table, String[] types) throws SQLException {
    Set<String> names = new TreeSet<>();
    try (ResultSet tables = metadata.getTables(catalog, schema, table, types)) {
      while (tables.next()) {
        names.add(tables.getString("TABLE_NAME"));
      }
    }
    return names;
  }

  @Test
  void columnsHaveTheirTypesInTheirOrder() throws SQLException {
    Map<String, Integer> types = new HashMap<>();
    try (ResultSet columns = metadata.getColumns("volary", "public", Jdbc.TYPES, "%")) {
      for (int position = 1; columns.next(); position++) {
        assertEquals(Jdbc.TYPES, columns.getString("TABLE_NAME"));
        assertEquals(position, columns.getInt("ORDINAL_POSITION"));
        assertEquals("YES", columns.getString("IS_NULLABLE"));
        assertEquals(DatabaseMetaData.columnNullable, columns.getInt("NULLABLE"));
        types.put(columns.getString("COLUMN_NAME"), columns.getInt("DATA_TYPE"));
      }
    }
    Map<String, Integer> expected =
        Map.of(
            "yes", Types.BOOLEAN, "int64", Types.BIGINT, "float64", Types.DOUBLE, "decimal", Types.DECIMAL, "text", Types.VARCHAR,
            "day", Types.DATE, "at_time", Types.TIME, "wall_nanosecond", Types.TIMESTAMP,
            "instant_second", Types.TIMESTAMP_WITH_TIMEZONE, "list", Types.ARRAY);
    expected.forEach((column, type) -> assertEquals(type, types.get(column), column));
    try (ResultSet columns = metadata.getColumns(null, null, Jdbc.TYPES, "decimal")) {
      assertTrue(columns.next());
      assertEquals(20, columns.getInt("COLUMN_SIZE"));
      assertEquals(4, columns.getInt("DECIMAL_DIGITS"));
      assertFalse(columns.next());
    }
  }

  @Test
  void columnsOfAResultSayTheirTypePrecisionScaleAndTable() throws SQLException {
    String sql = "SELECT \"decimal\", text, int32, wall_millisecond, \"decimal\" * 2 AS twice FROM " + Jdbc.TYPES;
    try (PreparedStatement prepared = connection.prepareStatement(sql)) {
      describedAsInTheTable(prepared.getMetaData());
      try (ResultSet results = prepared.executeQuery()) {
        describedAsInTheTable(results.getMetaData());
      }
    }
  }

  private static void describedAsInTheTable(ResultSetMetaData columns) throws SQLException {
    String[] types = {"DECIMAL", "VARCHAR", "INTEGER", "TIMESTAMP", "DECIMAL"};
    for (int column = 1; column <= types.length; column++) {
      assertEquals(types[column - 1], columns.getColumnTypeName(column));
      assertTrue(columns.isSearchable(column));
      assertFalse(columns.isAutoIncrement(column));
      assertEquals(column == 2, columns.isCaseSensitive(column), "of text alone");
      assertEquals(column == 5, columns.isReadOnly(column), "of what is computed alone");
      assertEquals(column == 5 ? null : Jdbc.TYPES, columns.getTableName(column));
    }
    assertEquals("volary", columns.getCatalogName(1));
    assertEquals("public", columns.getSchemaName(1));
    assertEquals(20, columns.getPrecision(1));
    assertEquals(4, columns.getScale(1));
    assertEquals(10, columns.getPrecision(3));
    assertEquals(0, columns.getScale(3));
    assertEquals("2025-11-26 01:02:03.123".length(), columns.getPrecision(4));
    assertEquals(3, columns.getScale(4));
    assertEquals(4, columns.getScale(5));
  }

  @Test
  void thereAreNoKeysAndAskingForThemIsNoError() throws SQLException {
    assertEquals(List.of(), Jdbc.rows(metadata.getPrimaryKeys("volary", "public", Jdbc.TYPES)));
    assertEquals(List.of(), Jdbc.rows(metadata.getImportedKeys("volary", "public", Jdbc.TYPES)));
    assertEquals(List.of(), Jdbc.rows(metadata.getExportedKeys("volary", "public", Jdbc.TYPES)));
    assertEquals(List.of(), Jdbc.rows(metadata.getCrossReference("volary", "public", Jdbc.TYPES, "volary", "public", "java_jdbc_census")));
    assertEquals(List.of(), Jdbc.rows(metadata.getIndexInfo("volary", "public", Jdbc.TYPES, false, true)));
  }

  @Test
  void theDriverItselfAnswersGetTypeInfoWithNothing() throws SQLException {
    assertEquals(List.of(), Jdbc.rows(metadata.getTypeInfo()));
  }

  @Test
  void theFunctionsOfTheServerAreNamed() throws SQLException {
    assertTrue(metadata.getNumericFunctions().contains("abs"), metadata.getNumericFunctions());
    assertTrue(metadata.getStringFunctions().contains("upper"), metadata.getStringFunctions());
    assertTrue(metadata.getTimeDateFunctions().contains("date_trunc"), metadata.getTimeDateFunctions());
    assertTrue(metadata.getSystemFunctions().contains("predict"), metadata.getSystemFunctions());
    assertTrue(Arrays.asList(metadata.getSQLKeywords().split(", ")).contains("MODEL"), metadata.getSQLKeywords());
  }

  @Test
  void theServerSaysWhatItsSqlCan() throws SQLException {
    assertTrue(metadata.supportsGroupBy());
    assertTrue(metadata.supportsGroupByUnrelated());
    assertTrue(metadata.supportsOuterJoins());
    assertTrue(metadata.supportsFullOuterJoins());
    assertTrue(metadata.supportsUnion());
    assertTrue(metadata.supportsUnionAll());
    assertTrue(metadata.supportsCorrelatedSubqueries());
    assertTrue(metadata.supportsColumnAliasing());
    assertTrue(metadata.supportsTableCorrelationNames());
    assertTrue(metadata.supportsANSI92EntryLevelSQL());
    assertFalse(metadata.isReadOnly());
    assertFalse(metadata.supportsStoredProcedures());
    assertFalse(metadata.supportsSavepoints());
    assertTrue(metadata.supportsTransactionIsolationLevel(Connection.TRANSACTION_NONE));
    assertFalse(metadata.supportsTransactionIsolationLevel(Connection.TRANSACTION_SERIALIZABLE));
    assertTrue(metadata.supportsResultSetType(ResultSet.TYPE_FORWARD_ONLY));
    assertFalse(metadata.supportsResultSetType(ResultSet.TYPE_SCROLL_INSENSITIVE));
    assertTrue(metadata.supportsConvert(Types.INTEGER, Types.VARCHAR));
  }

  /** The driver unboxes what the server says of itself, so whatever is left unsaid is a NullPointerException there. */
  @Test
  void everyQuestionHasAnAnswer() throws Exception {
    Map<String, Throwable> unanswered = new TreeMap<>();
    for (Method question : DatabaseMetaData.class.getMethods()) {
      if (question.getParameterCount() == 0) {
        try {
          if (question.invoke(metadata) instanceof ResultSet rows) {
            rows.close();
          }
        } catch (InvocationTargetException failed) {
          unanswered.put(question.getName(), failed.getCause());
        }
      }
    }
    assertEquals(Set.of(), unanswered.keySet(), unanswered::toString);
  }
}
