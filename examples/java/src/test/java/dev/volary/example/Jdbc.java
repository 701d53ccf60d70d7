package dev.volary.example;

import static dev.volary.example.Vectors.field;
import static dev.volary.example.Vectors.vector;

import java.io.IOException;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider.MapDictionaryProvider;
import org.apache.arrow.vector.types.DateUnit;
import org.apache.arrow.vector.types.FloatingPointPrecision;
import org.apache.arrow.vector.types.TimeUnit;
import org.apache.arrow.vector.types.pojo.ArrowType;

/** Connections of Arrow's JDBC driver to the server of the tests, and a table with a column of every type that it reads. */
final class Jdbc {

  /** One row of values, one of nulls. */
  static final String TYPES = "java_jdbc_types";

  /** 2025-11-26T01:02:03.123456789Z. */
  static final long NANOSECONDS = 1_764_118_923_123_456_789L;

  private Jdbc() {}

  static String url(String parameters) {
    return "jdbc:arrow-flight-sql://" + Server.address() + "/?useEncryption=false" + parameters;
  }

  static Connection connect() throws SQLException {
    return DriverManager.getConnection(url(""));
  }

  /** Every row that a query answers, as {@code getObject} gives them. */
  static List<List<Object>> rows(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet results = statement.executeQuery(sql)) {
      return rows(results);
    }
  }

  /** Every row of a result, which is closed then: the driver keeps the memory of one that is not. */
  static List<List<Object>> rows(ResultSet opened) throws SQLException {
    try (ResultSet results = opened) {
      ResultSetMetaData columns = results.getMetaData();
      List<List<Object>> rows = new ArrayList<>();
      while (results.next()) {
        List<Object> row = new ArrayList<>();
        for (int column = 1; column <= columns.getColumnCount(); column++) {
          row.add(results.getObject(column));
        }
        rows.add(row);
      }
      return rows;
    }
  }

  static void writeTypes(Volary volary) throws IOException {
    BufferAllocator memory = volary.allocator();
    List<FieldVector> columns = new ArrayList<>();
    add(columns, memory, "yes", new ArrowType.Bool(), true);
    for (int width : new int[] {8, 16, 32, 64}) {
      add(columns, memory, "int" + width, new ArrowType.Int(width, true), -(1L << (width - 1)));
      add(columns, memory, "uint" + width, new ArrowType.Int(width, false), 7);
    }
    add(columns, memory, "float32", new ArrowType.FloatingPoint(FloatingPointPrecision.SINGLE), 0.5);
    add(columns, memory, "float64", new ArrowType.FloatingPoint(FloatingPointPrecision.DOUBLE), 0.1);
    add(columns, memory, "decimal", new ArrowType.Decimal(20, 4, 128), new BigDecimal("1234567890123456.7890"));
    add(columns, memory, "wide_decimal", new ArrowType.Decimal(60, 2, 256), new BigDecimal("-1" + "0".repeat(50) + ".25"));
    add(columns, memory, "text", new ArrowType.Utf8(), "Grüße, 世界");
    add(columns, memory, "large_text", new ArrowType.LargeUtf8(), "long");
    add(columns, memory, "bytes", new ArrowType.Binary(), new byte[] {1, -1});
    add(columns, memory, "four_bytes", new ArrowType.FixedSizeBinary(4), new byte[] {1, 2, 3, 4});
    add(columns, memory, "day", new ArrowType.Date(DateUnit.DAY), 20_418); // 2025-11-26
    add(columns, memory, "at_time", new ArrowType.Time(TimeUnit.MICROSECOND, 64), 45_296_789_000L); // 12:34:56.789
    for (TimeUnit unit : TimeUnit.values()) {
      long value = NANOSECONDS / (long) Math.pow(1_000, TimeUnit.NANOSECOND.ordinal() - unit.ordinal());
      add(columns, memory, "wall_" + unit.name().toLowerCase(Locale.ROOT), new ArrowType.Timestamp(unit, null), value);
      add(columns, memory, "instant_" + unit.name().toLowerCase(Locale.ROOT), new ArrowType.Timestamp(unit, "Europe/Berlin"), value);
    }
    columns.add(vector(memory, field("list", new ArrowType.List(), field("item", new ArrowType.Int(64, true))), Arrays.asList(Arrays.asList(1, null, 3), null)));
    columns.add(vector(memory, field("both", new ArrowType.Struct(), field("a", new ArrowType.Int(32, true)), field("b", new ArrowType.Utf8())), Arrays.asList(Map.of("a", 1, "b", "x"), null)));
    columns.add(vector(memory, field("nothing", new ArrowType.Utf8()), Arrays.asList(null, null)));
    try (VectorSchemaRoot root = new VectorSchemaRoot(columns)) {
      boolean[] sent = {false};
      volary.put(TYPES, "OVERWRITE", root, new MapDictionaryProvider(), () -> !sent[0] && (sent[0] = true));
    }
  }

  private static void add(List<FieldVector> columns, BufferAllocator memory, String name, ArrowType type, Object value) {
    columns.add(vector(memory, field(name, type), Arrays.asList(value, null)));
  }
}
