package dev.volary.example;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.util.Calendar;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** What the getters of a JDBC result give for a column of every type. */
@ExtendWith(Server.class)
class JdbcResultsTest {

  private static final Timestamp WALL = Timestamp.valueOf("2025-11-26 01:02:03.123456789");

  private static Connection connection;

  @BeforeAll
  static void connect() throws Exception {
    try (Volary volary = new Volary(Server.url())) {
      Jdbc.writeTypes(volary);
    }
    connection = Jdbc.connect();
  }

  @AfterAll
  static void disconnect() throws SQLException {
    connection.close();
  }

  @FunctionalInterface
  interface Getter {
    Object get(ResultSet row, String column) throws SQLException;
  }

  static Stream<Arguments> getters() {
    Getter object = ResultSet::getObject;
    Getter text = ResultSet::getString;
    Getter utc = (row, column) -> row.getTimestamp(column, Calendar.getInstance(TimeZone.getTimeZone("UTC")));
    Getter berlin = (row, column) -> row.getTimestamp(column, Calendar.getInstance(TimeZone.getTimeZone("Europe/Berlin")));
    Getter local = (row, column) -> row.getObject(column, LocalDateTime.class);
    Getter instant = (row, column) -> row.getObject(column, Instant.class);
    Getter offset = (row, column) -> row.getObject(column, OffsetDateTime.class);
    return Stream.of(
        arguments("yes", Types.BOOLEAN, object, true),
        arguments("yes", Types.BOOLEAN, (Getter) ResultSet::getBoolean, true),
        arguments("int8", Types.TINYINT, object, (byte) -128),
        arguments("int8", Types.TINYINT, (Getter) ResultSet::getByte, (byte) -128),
        arguments("int16", Types.SMALLINT, object, Short.MIN_VALUE),
        arguments("int16", Types.SMALLINT, (Getter) ResultSet::getShort, Short.MIN_VALUE),
        arguments("int32", Types.INTEGER, object, Integer.MIN_VALUE),
        arguments("int32", Types.INTEGER, (Getter) ResultSet::getInt, Integer.MIN_VALUE),
        arguments("int64", Types.BIGINT, object, Long.MIN_VALUE),
        arguments("int64", Types.BIGINT, (Getter) ResultSet::getLong, Long.MIN_VALUE),
        arguments("int64", Types.BIGINT, (Getter) ResultSet::getBigDecimal, BigDecimal.valueOf(Long.MIN_VALUE)),
        arguments("uint8", Types.TINYINT, (Getter) ResultSet::getInt, 7),
        arguments("uint16", Types.SMALLINT, (Getter) ResultSet::getInt, 7),
        arguments("uint32", Types.INTEGER, (Getter) ResultSet::getLong, 7L),
        arguments("uint64", Types.BIGINT, (Getter) ResultSet::getLong, 7L),
        arguments("uint64", Types.BIGINT, text, "7"),
        arguments("float32", Types.FLOAT, (Getter) ResultSet::getFloat, 0.5f),
        arguments("float32", Types.FLOAT, (Getter) ResultSet::getDouble, 0.5),
        arguments("float64", Types.DOUBLE, object, 0.1),
        arguments("float64", Types.DOUBLE, (Getter) ResultSet::getDouble, 0.1),
        arguments("decimal", Types.DECIMAL, object, new BigDecimal("1234567890123456.7890")),
        arguments("decimal", Types.DECIMAL, (Getter) ResultSet::getBigDecimal, new BigDecimal("1234567890123456.7890")),
        arguments("wide_decimal", Types.DECIMAL, (Getter) ResultSet::getBigDecimal, new BigDecimal("-1" + "0".repeat(50) + ".25")),
        arguments("text", Types.VARCHAR, object, "Grüße, 世界"),
        arguments("text", Types.VARCHAR, text, "Grüße, 世界"),
        arguments("large_text", Types.LONGVARCHAR, text, "long"),
        arguments("bytes", Types.VARBINARY, (Getter) (row, column) -> List.of(row.getBytes(column)[0], row.getBytes(column)[1]), List.of((byte) 1, (byte) -1)),
        arguments("four_bytes", Types.BINARY, (Getter) (row, column) -> row.getBytes(column).length, 4),
        arguments("day", Types.DATE, object, Date.valueOf("2025-11-26")),
        arguments("day", Types.DATE, (Getter) ResultSet::getDate, Date.valueOf("2025-11-26")),
        arguments("day", Types.DATE, text, "2025-11-26"),
        arguments("at_time", Types.TIME, (Getter) (row, column) -> row.getTime(column).getTime(), 45_296_789L),
        // Without a zone: the same wall clock everywhere. `getTimestamp` of this driver is that only with a calendar of UTC.
        arguments("wall_nanosecond", Types.TIMESTAMP, object, WALL),
        arguments("wall_nanosecond", Types.TIMESTAMP, utc, WALL),
        arguments("wall_nanosecond", Types.TIMESTAMP, local, LocalDateTime.parse("2025-11-26T01:02:03.123456789")),
        arguments("wall_microsecond", Types.TIMESTAMP, local, LocalDateTime.parse("2025-11-26T01:02:03.123456")),
        arguments("wall_millisecond", Types.TIMESTAMP, local, LocalDateTime.parse("2025-11-26T01:02:03.123")),
        arguments("wall_second", Types.TIMESTAMP, local, LocalDateTime.parse("2025-11-26T01:02:03")),
        // With a zone: an instant, or what clocks of that zone show.
        arguments("instant_nanosecond", Types.TIMESTAMP_WITH_TIMEZONE, instant, Instant.parse("2025-11-26T01:02:03.123456789Z")),
        arguments("instant_microsecond", Types.TIMESTAMP_WITH_TIMEZONE, instant, Instant.parse("2025-11-26T01:02:03.123456Z")),
        arguments("instant_millisecond", Types.TIMESTAMP_WITH_TIMEZONE, instant, Instant.parse("2025-11-26T01:02:03.123Z")),
        arguments("instant_second", Types.TIMESTAMP_WITH_TIMEZONE, instant, Instant.parse("2025-11-26T01:02:03Z")),
        arguments("instant_second", Types.TIMESTAMP_WITH_TIMEZONE, offset, OffsetDateTime.parse("2025-11-26T02:02:03+01:00")),
        arguments("instant_second", Types.TIMESTAMP_WITH_TIMEZONE, berlin, Timestamp.valueOf("2025-11-26 02:02:03")),
        arguments("list", Types.ARRAY, (Getter) (row, column) -> List.of(((Object[]) row.getArray(column).getArray())[0], ((Object[]) row.getArray(column).getArray()).length), List.of(1L, 3)),
        arguments("list", Types.ARRAY, text, "[1,null,3]"),
        arguments("both", Types.JAVA_OBJECT, text, "{\"a\":1,\"b\":\"x\"}"),
        arguments("both", Types.JAVA_OBJECT, (Getter) (row, column) -> ((Map<?, ?>) row.getObject(column)).get("a"), 1));
  }

  @ParameterizedTest(name = "{0} {index}")
  @MethodSource("getters")
  void aValueIsReadAndANullIsSeen(String column, int type, Getter getter, Object expected) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT " + column + " FROM " + Jdbc.TYPES)) {
      assertEquals(type, row.getMetaData().getColumnType(1));
      assertEquals(column, row.getMetaData().getColumnLabel(1));
      assertTrue(row.next());
      assertEquals(expected, getter.get(row, column));
      assertFalse(row.wasNull());
      assertTrue(row.next());
      if (type != Types.TIMESTAMP_WITH_TIMEZONE) { // whose getString has an error of the driver's own
        assertNull(row.getString(column));
      } else {
        assertNull(row.getTimestamp(column));
      }
      assertTrue(row.wasNull());
      assertFalse(row.next());
    }
  }

  @Test
  void aColumnOfNothingButNullsIsRead() throws SQLException {
    assertEquals(2, Jdbc.rows(connection, "SELECT nothing, NULL AS none FROM " + Jdbc.TYPES).size());
  }

  @Test
  void manyRowsComeInTheOrderOfTheQuery() throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet results = statement.executeQuery("SELECT value, 'row ' || value AS word FROM generate_series(1, 300000) ORDER BY value DESC")) {
      for (long expected = 300_000; expected > 0; expected--) {
        assertTrue(results.next());
        assertEquals(expected, results.getLong("value"));
        if (expected % 1_000 == 0) {
          assertEquals("row " + expected, results.getString(2));
        }
      }
      assertFalse(results.next());
    }
  }

  @Test
  void aResultWithoutRowsHasItsColumns() throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet results = statement.executeQuery("SELECT int64, text FROM " + Jdbc.TYPES + " WHERE false")) {
      ResultSetMetaData columns = results.getMetaData();
      assertEquals(List.of("int64", "text"), List.of(columns.getColumnName(1), columns.getColumnName(2)));
      assertEquals(List.of(Types.BIGINT, Types.VARCHAR), List.of(columns.getColumnType(1), columns.getColumnType(2)));
      assertFalse(results.next());
    }
  }

  @Test
  void executeSaysWhetherThereAreRowsAndHowMany() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      assertTrue(statement.execute("SELECT 1"));
      assertNotNull(statement.getResultSet());
      assertEquals(-1, statement.getUpdateCount());
      assertFalse(statement.getMoreResults());
    }
  }

  @Test
  void maxRowsEndAResult() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.setMaxRows(3);
      statement.setFetchSize(1);
      statement.setQueryTimeout(30);
      try (ResultSet results = statement.executeQuery("SELECT value FROM generate_series(1, 100000)")) {
        int rows = 0;
        while (results.next()) {
          rows++;
        }
        assertEquals(3, rows);
      }
    }
    Server.awaitIdle(Duration.ofSeconds(1));
  }

  @Test
  void aConnectionAnswersAgainOnceTheStatementThatTookTooLongIsClosed() throws SQLException {
    try (Connection own = Jdbc.connect()) {
      try (Statement slow = own.createStatement()) {
        slow.setQueryTimeout(1);
        SQLException late = assertThrows(SQLException.class, () -> slow.executeQuery(
            "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value * b.value % 7 = 1"));
        assertTrue(late.getMessage().contains("timed out"), late.getMessage());
      }
      try (Statement next = own.createStatement(); ResultSet one = next.executeQuery("SELECT 1")) {
        assertTrue(one.next());
        assertEquals(1, one.getLong(1));
      }
    }
    Server.awaitIdle(Duration.ofSeconds(10));
  }

  @Test
  void bytesAreBytes() throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT bytes FROM " + Jdbc.TYPES)) {
      assertTrue(row.next());
      assertArrayEquals(new byte[] {1, -1}, row.getBytes(1));
      assertArrayEquals(new byte[] {1, -1}, (byte[]) row.getObject(1));
    }
  }

}
