package dev.volary.example;

import static dev.volary.example.Vectors.field;
import static dev.volary.example.Vectors.required;
import static dev.volary.example.Vectors.vector;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.IntVector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.compare.Range;
import org.apache.arrow.vector.compare.RangeEqualsVisitor;
import org.apache.arrow.vector.complex.DenseUnionVector;
import org.apache.arrow.vector.dictionary.Dictionary;
import org.apache.arrow.vector.dictionary.DictionaryEncoder;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.apache.arrow.vector.dictionary.DictionaryProvider.MapDictionaryProvider;
import org.apache.arrow.vector.types.DateUnit;
import org.apache.arrow.vector.types.FloatingPointPrecision;
import org.apache.arrow.vector.types.IntervalUnit;
import org.apache.arrow.vector.types.TimeUnit;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.DictionaryEncoding;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.Schema;
import org.apache.arrow.vector.util.Text;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** What Java sends of every Arrow type is what Java reads. */
@ExtendWith(Server.class)
class TypesTest {

  private static final ArrowType INT32 = new ArrowType.Int(32, true);
  private static final ArrowType INT64 = new ArrowType.Int(64, true);
  private static final ArrowType UTF8 = new ArrowType.Utf8();
  private static final ArrowType LIST = new ArrowType.List();
  private static final ArrowType STRUCT = new ArrowType.Struct();

  private static Volary volary;

  @BeforeAll
  static void connect() {
    volary = new Volary(Server.url());
  }

  @AfterAll
  static void disconnect() throws InterruptedException {
    volary.close();
  }

  static Stream<Arguments> types() {
    List<Arguments> all = new ArrayList<>();
    for (int width : new int[] {8, 16, 32, 64}) {
      long most = width == 64 ? Long.MAX_VALUE : (1L << (width - 1)) - 1;
      all.add(arguments(field("int" + width, new ArrowType.Int(width, true)), Arrays.asList(-most - 1, null, most)));
      // All bits set: the largest of the unsigned.
      all.add(arguments(field("uint" + width, new ArrowType.Int(width, false)), Arrays.asList(0, null, -1L >>> (64 - width))));
    }
    for (TimeUnit unit : TimeUnit.values()) {
      int day = unit == TimeUnit.SECOND || unit == TimeUnit.MILLISECOND ? 32 : 64;
      all.add(arguments(field("time_" + unit, new ArrowType.Time(unit, day)), Arrays.asList(0, null, 86_399)));
      for (String zone : new String[] {null, "UTC", "Europe/Berlin", "+05:30"}) {
        Field timestamp = field("timestamp_" + unit + "_" + zone, new ArrowType.Timestamp(unit, zone));
        all.add(arguments(timestamp, Arrays.asList(-1L, null, 1_764_119_324_123L)));
      }
    }
    all.addAll(
        List.of(
            arguments(field("null", new ArrowType.Null()), Arrays.asList(null, null, null)),
            arguments(field("bool", new ArrowType.Bool()), Arrays.asList(true, null, false)),
            arguments(field("float16", floating(FloatingPointPrecision.HALF)), Arrays.asList(0.5, null, -2.0)),
            arguments(field("float32", floating(FloatingPointPrecision.SINGLE)), Arrays.asList(0.1, null, Float.NaN)),
            arguments(field("float64", floating(FloatingPointPrecision.DOUBLE)), Arrays.asList(0.1, null, Double.NEGATIVE_INFINITY)),
            arguments(field("utf8", UTF8), Arrays.asList("", null, "Grüße, 世界 \uD83D\uDE00")),
            arguments(field("large_utf8", new ArrowType.LargeUtf8()), Arrays.asList("x".repeat(3_000_000), null, "y")),
            arguments(field("binary", new ArrowType.Binary()), Arrays.asList(new byte[] {0, -1}, null, new byte[0])),
            arguments(field("large_binary", new ArrowType.LargeBinary()), Arrays.asList(new byte[] {0, -1}, null, new byte[0])),
            arguments(field("fixed_size_binary", new ArrowType.FixedSizeBinary(4)), Arrays.asList(new byte[] {1, 2, 3, 4}, null, new byte[4])),
            arguments(field("decimal128", new ArrowType.Decimal(38, 10, 128)), Arrays.asList(new BigDecimal("1234567890123456789012345678.0123456789"), null, new BigDecimal("-0.0000000001"))),
            arguments(field("decimal256", new ArrowType.Decimal(76, 2, 256)), Arrays.asList(new BigDecimal("9".repeat(74) + ".99"), null, new BigDecimal("-1.00"))),
            arguments(field("date_day", new ArrowType.Date(DateUnit.DAY)), Arrays.asList(-719_162, null, 20_418)),
            arguments(field("date_milli", new ArrowType.Date(DateUnit.MILLISECOND)), Arrays.asList(0L, null, 86_400_000L)),
            arguments(field("duration", new ArrowType.Duration(TimeUnit.MICROSECOND)), Arrays.asList(-5L, null, 86_400_000L)),
            arguments(field("interval", new ArrowType.Interval(IntervalUnit.MONTH_DAY_NANO)), Arrays.asList(1, null, 3)),
            arguments(field("list", LIST, item(INT64)), Arrays.asList(Arrays.asList(1, null, 3), null, List.of())),
            arguments(field("large_list", new ArrowType.LargeList(), item(UTF8)), Arrays.asList(List.of("a", "b"), null, List.of())),
            arguments(field("fixed_size_list", new ArrowType.FixedSizeList(2), item(floating(FloatingPointPrecision.SINGLE))), Arrays.asList(List.of(1.5, 2.5), null, List.of(0, 0))),
            arguments(field("list_of_lists", LIST, item(LIST, item(INT32))), Arrays.asList(List.of(List.of(1), List.of(2, 3)), null, List.of(List.of()))),
            arguments(field("struct", STRUCT, field("a", INT32), field("b", UTF8)), Arrays.asList(Map.of("a", 1, "b", "x"), null, Map.of("b", "y"))),
            arguments(field("list_of_structs", LIST, item(STRUCT, field("a", INT32))), Arrays.asList(List.of(Map.of("a", 1), Map.of("a", 2)), null, List.of())),
            arguments(map(), Arrays.asList(List.of(List.of("a", 1), List.of("b", 2)), null, List.of())),
            arguments(required("required", INT64), Arrays.asList(1, 2, 3)),
            arguments(field("all_null", UTF8), Arrays.asList(null, null, null)),
            arguments(field("all_null_list", LIST, item(INT32)), Arrays.asList(null, null, null))));
    return all.stream();
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("types")
  void aColumnComesBackAsItWasSent(Field column, List<?> values) throws Exception {
    try (FieldVector sent = vector(volary.allocator(), column, values)) {
      String dataset = "java_type_" + column.getName().replaceAll("[^A-Za-z0-9]", "_");
      put(dataset, List.of(sent), new MapDictionaryProvider());
      assertSame(sent, column, dataset);
    }
  }

  @Test
  void aTableWithoutRowsKeepsItsSchema() throws Exception {
    List<Field> fields = types().map(type -> (Field) type.get()[0]).toList();
    try (VectorSchemaRoot none = VectorSchemaRoot.create(new Schema(fields), volary.allocator())) {
      assertEquals(0, volary.put("java_empty", "OVERWRITE", none, new MapDictionaryProvider(), () -> false).get("rows").asLong());
    }
    FlightDescriptor dataset = FlightDescriptor.path("java_empty");
    assertEquals(fields, volary.flight().getSchema(dataset).getSchema().getFields());
    volary.read(dataset, rows -> assertEquals(0, rows.getRowCount()));
  }

  @Test
  void aDictionaryIsTakenAndComesBackAsItsValues() throws Exception {
    List<String> words = Arrays.asList("red", "blue", null, "red");
    try (FieldVector plain = vector(volary.allocator(), field("colour", UTF8), words);
        FieldVector values = vector(volary.allocator(), field("values", UTF8), List.of("red", "blue"));
        MapDictionaryProvider dictionaries = new MapDictionaryProvider()) {
      Dictionary dictionary = new Dictionary(values, new DictionaryEncoding(7, true, new ArrowType.Int(16, true)));
      dictionaries.put(dictionary);
      try (FieldVector encoded = (FieldVector) DictionaryEncoder.encode(plain, dictionary)) {
        put("java_dictionary", List.of(encoded), dictionaries);
      }
      assertSame(plain, plain.getField(), "java_dictionary");
    }
  }

  @Test
  void aTextViewComesBackAsText() throws Exception {
    List<String> words = Arrays.asList("short", null, "longer than the twelve bytes of a view");
    try (FieldVector views = vector(volary.allocator(), field("word", new ArrowType.Utf8View()), words);
        FieldVector texts = vector(volary.allocator(), field("word", UTF8), words)) {
      put("java_views", List.of(views), new MapDictionaryProvider());
      assertSame(texts, texts.getField(), "java_views");
    }
  }

  @Test
  void aTypeThatCannotBeKeptIsRefusedByNameBeforeAnyRow() throws Exception {
    try (DenseUnionVector union = DenseUnionVector.empty("either", volary.allocator())) {
      union.initializeChildrenFromFields(List.of(field("number", INT32), field("word", UTF8)));
      FlightRuntimeException refused =
          assertThrows(FlightRuntimeException.class, () -> put("java_union", List.of(union), new MapDictionaryProvider()));
      assertEquals(FlightStatusCode.INVALID_ARGUMENT, refused.status().code(), refused.getMessage());
      assertTrue(refused.getMessage().contains("\"either\""), refused.getMessage());
    }
  }

  @Test
  void manyColumnsOfManyBatchesComeBackInTheirOrder() throws Exception {
    int batches = 40;
    int rows = 5_000;
    try (VectorSchemaRoot root =
        VectorSchemaRoot.create(new Schema(List.of(field("number", INT32), field("word", UTF8))), volary.allocator())) {
      int[] written = {0};
      volary.put("java_many", "OVERWRITE", root, new MapDictionaryProvider(), () -> {
        if (written[0] == batches) {
          return false;
        }
        root.allocateNew();
        for (int row = 0; row < rows; row++) {
          int number = written[0] * rows + row;
          Vectors.set(root.getVector(0), row, number);
          Vectors.set(root.getVector(1), row, number % 7 == 0 ? null : "word " + number);
        }
        root.setRowCount(rows);
        written[0]++;
        return true;
      });
    }
    int[] next = {0};
    volary.read(FlightDescriptor.path("java_many"), batch -> {
      IntVector numbers = (IntVector) batch.getVector("number");
      VarCharVector words = (VarCharVector) batch.getVector("word");
      for (int row = 0; row < batch.getRowCount(); row++, next[0]++) {
        assertEquals(next[0], numbers.get(row));
        Text word = words.getObject(row);
        assertEquals(next[0] % 7 == 0 ? null : "word " + next[0], word == null ? null : word.toString());
      }
    });
    assertEquals(batches * rows, next[0]);
  }

  /** The child of a list, by the name that Java's vectors give it whatever it was called. */
  private static Field item(ArrowType type, Field... children) {
    return field("$data$", type, children);
  }

  private static ArrowType floating(FloatingPointPrecision precision) {
    return new ArrowType.FloatingPoint(precision);
  }

  private static Field map() {
    return field("map", new ArrowType.Map(false), required("entries", STRUCT, required("key", UTF8), field("value", INT32)));
  }

  /** Writes the vectors as the one batch of a data set. */
  private static void put(String dataset, List<FieldVector> vectors, DictionaryProvider dictionaries) throws Exception {
    VectorSchemaRoot root = new VectorSchemaRoot(vectors);
    boolean[] sent = {false};
    volary.put(dataset, "OVERWRITE", root, dictionaries, () -> !sent[0] && (sent[0] = true));
  }

  /** The data set's one column is announced and streamed as this field, and holds what this vector holds. */
  private static void assertSame(FieldVector expected, Field field, String dataset) {
    FlightDescriptor descriptor = FlightDescriptor.path(dataset);
    assertEquals(List.of(field), volary.flight().getSchema(descriptor).getSchema().getFields(), "GetSchema");
    assertEquals(List.of(field), volary.flight().getInfo(descriptor).getSchemaOptional().orElseThrow().getFields(), "GetFlightInfo");
    int[] rows = {0};
    volary.read(descriptor, batch -> {
      assertEquals(List.of(field), batch.getSchema().getFields(), "the stream");
      Range range = new Range(rows[0], 0, batch.getRowCount());
      assertTrue(new RangeEqualsVisitor(expected, batch.getVector(0)).rangeEquals(range), () -> expected + " came back otherwise");
      rows[0] += batch.getRowCount();
    });
    assertEquals(expected.getValueCount(), rows[0]);
  }
}
