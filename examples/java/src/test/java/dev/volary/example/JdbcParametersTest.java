package dev.volary.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Time;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.Instant;
import java.util.Calendar;
import java.util.List;
import java.util.TimeZone;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Prepared statements and what may be bound to their parameters. */
@ExtendWith(Server.class)
class JdbcParametersTest {

  private static final Calendar UTC = Calendar.getInstance(TimeZone.getTimeZone("UTC"));

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
  interface Setter {
    void set(PreparedStatement statement) throws SQLException;
  }

  static Stream<Arguments> values() {
    Timestamp milliseconds = Timestamp.valueOf("2025-11-26 01:02:03.123");
    return Stream.of(
        arguments("yes = ?", (Setter) s -> s.setBoolean(1, true)),
        arguments("int8 = ?", (Setter) s -> s.setByte(1, (byte) -128)),
        arguments("int16 = ?", (Setter) s -> s.setShort(1, Short.MIN_VALUE)),
        arguments("int32 = ?", (Setter) s -> s.setInt(1, Integer.MIN_VALUE)),
        arguments("int64 = ?", (Setter) s -> s.setLong(1, Long.MIN_VALUE)),
        arguments("int64 = ?", (Setter) s -> s.setObject(1, Long.MIN_VALUE)),
        arguments("uint8 = ?", (Setter) s -> s.setInt(1, 7)),
        arguments("uint16 = ?", (Setter) s -> s.setInt(1, 7)),
        arguments("uint32 = ?", (Setter) s -> s.setLong(1, 7)),
        arguments("uint64 = ?", (Setter) s -> s.setLong(1, 7)),
        arguments("float32 = ?", (Setter) s -> s.setFloat(1, 0.5f)),
        arguments("float64 = ?", (Setter) s -> s.setDouble(1, 0.1)),
        arguments("decimal = ?", (Setter) s -> s.setBigDecimal(1, new BigDecimal("1234567890123456.7890"))),
        arguments("text = ?", (Setter) s -> s.setString(1, "Grüße, 世界")),
        arguments("text = ?", (Setter) s -> s.setObject(1, "Grüße, 世界")),
        arguments("text LIKE ?", (Setter) s -> s.setString(1, "Gr%")),
        arguments("large_text = ?", (Setter) s -> s.setString(1, "long")),
        arguments("bytes = ?", (Setter) s -> s.setBytes(1, new byte[] {1, -1})),
        arguments("day = ?", (Setter) s -> s.setDate(1, Date.valueOf("2025-11-26"))),
        arguments("day = ?", (Setter) s -> s.setObject(1, Date.valueOf("2025-11-26"))),
        arguments("at_time > ?", (Setter) s -> s.setTime(1, Time.valueOf("12:34:55"))),
        arguments("at_time < ?", (Setter) s -> s.setTime(1, Time.valueOf("12:34:58"))),
        arguments("wall_second = ?", (Setter) s -> s.setTimestamp(1, Timestamp.valueOf("2025-11-26 01:02:03"))),
        arguments("wall_millisecond = ?", (Setter) s -> s.setTimestamp(1, milliseconds)),
        arguments("date_trunc('millisecond', wall_microsecond) = ?", (Setter) s -> s.setTimestamp(1, milliseconds)),
        arguments("date_trunc('millisecond', wall_nanosecond) = ?", (Setter) s -> s.setTimestamp(1, milliseconds)),
        arguments("date_trunc('second', instant_microsecond) = ?", (Setter) s -> s.setTimestamp(1, Timestamp.from(Instant.parse("2025-11-26T01:02:03Z")), UTC)),
        arguments("list = ?", (Setter) s -> s.setArray(1, s.getConnection().createArrayOf("BIGINT", new Object[] {1L, null, 3L}))),
        arguments("int64 IN (?, ?)", (Setter) s -> {
          s.setLong(1, 5);
          s.setLong(2, Long.MIN_VALUE);
        }),
        arguments("text = $2 AND int64 = $1", (Setter) s -> {
          s.setLong(1, Long.MIN_VALUE);
          s.setString(2, "Grüße, 世界");
        }),
        arguments("coalesce(?, 'x') = 'x' AND yes", (Setter) s -> s.setNull(1, Types.VARCHAR)));
  }

  @ParameterizedTest(name = "{0} {index}")
  @MethodSource("values")
  void aValueIsBound(String condition, Setter setter) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement("SELECT count(*) FROM " + Jdbc.TYPES + " WHERE " + condition)) {
      setter.set(statement);
      try (ResultSet row = statement.executeQuery()) {
        assertTrue(row.next());
        assertEquals(1, row.getLong(1));
      }
    }
  }

  @Test
  void theNumberOfRowsMayBeAParameter() throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement("SELECT value FROM generate_series(1, 10) LIMIT ? OFFSET ?")) {
      statement.setLong(1, 2);
      statement.setLong(2, 3);
      try (ResultSet rows = statement.executeQuery()) {
        assertEquals(List.of(List.of(4L), List.of(5L)), Jdbc.rows(rows));
      }
    }
  }

  @Test
  void aParameterOfWhichNothingIsKnownIsAText() throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement("SELECT ? AS said")) {
      statement.setString(1, "hello");
      try (ResultSet rows = statement.executeQuery()) {
        assertEquals(List.of(List.of("hello")), Jdbc.rows(rows));
      }
    }
  }

  @Test
  void aStatementIsBoundAndRunAgainAndAgain() throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement("SELECT ? + 1 AS next")) {
      assertEquals(1, statement.getParameterMetaData().getParameterCount());
      assertEquals(Types.BIGINT, statement.getParameterMetaData().getParameterType(1));
      assertEquals("next", statement.getMetaData().getColumnName(1));
      for (long number = 0; number < 20; number++) {
        statement.setLong(1, number);
        try (ResultSet row = statement.executeQuery()) {
          assertTrue(row.next());
          assertEquals(number + 1, row.getLong(1));
          assertFalse(row.next());
        }
      }
    }
  }

  @Test
  void aStatementWithoutParametersIsPreparedToo() throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement("SELECT 1 AS one")) {
      assertEquals(0, statement.getParameterMetaData().getParameterCount());
      assertTrue(statement.execute());
      assertEquals(List.of(List.of(1L)), Jdbc.rows(statement.getResultSet()));
    }
  }

  @Test
  void whatCannotBeBoundIsRefusedAndTheStatementGoesOn() throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement("SELECT ? + 1 AS next")) {
      statement.setString(1, "not a number");
      assertThrows(SQLException.class, statement::executeQuery);
      statement.setLong(1, 1);
      try (ResultSet row = statement.executeQuery()) {
        assertTrue(row.next());
        assertEquals(2, row.getLong(1));
      }
    }
  }

}
