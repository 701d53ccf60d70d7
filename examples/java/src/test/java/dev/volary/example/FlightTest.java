package dev.volary.example;

import static dev.volary.example.Vectors.field;
import static java.util.stream.Collectors.toMap;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;
import java.util.stream.StreamSupport;
import org.apache.arrow.flight.Action;
import org.apache.arrow.flight.ActionType;
import org.apache.arrow.flight.CallOptions;
import org.apache.arrow.flight.Criteria;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightEndpoint;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.PollInfo;
import org.apache.arrow.flight.Ticket;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.vector.BigIntVector;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.Float8Vector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider.MapDictionaryProvider;
import org.apache.arrow.vector.types.FloatingPointPrecision;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.Schema;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.function.Executable;

/** Every verb of Flight as Arrow's Java client calls it, and what it hears when something is wrong. */
@ExtendWith(Server.class)
class FlightTest {

  private static final Schema NUMBERS = new Schema(List.of(field("number", new ArrowType.Int(64, true))));
  private static final Duration SOON = Duration.ofSeconds(10);

  private static Volary volary;
  private static FlightClient flight;

  @BeforeAll
  static void connect() throws Exception {
    volary = new Volary(Server.url());
    flight = volary.flight();
    put("java_numbers", "OVERWRITE", 0, 100);
  }

  @AfterAll
  static void disconnect() throws InterruptedException {
    volary.close();
  }

  @Test
  void aDataSetIsListedAndDescribed() {
    List<FlightInfo> listed =
        StreamSupport.stream(flight.listFlights(new Criteria("java_numbers".getBytes(StandardCharsets.UTF_8))).spliterator(), false).toList();
    assertEquals(List.of(List.of("java_numbers")), listed.stream().map(info -> info.getDescriptor().getPath()).toList());
    FlightInfo info = flight.getInfo(FlightDescriptor.path("java_numbers"));
    assertEquals(100, info.getRecords());
    assertTrue(info.getBytes() > 0);
    assertEquals(NUMBERS, info.getSchemaOptional().orElseThrow());
    assertEquals(NUMBERS, flight.getSchema(FlightDescriptor.path("java_numbers")).getSchema());
    assertEquals(0, Volary.read(info.getAppMetadata()).get("version").asLong());
    for (FlightInfo every : flight.listFlights(Criteria.ALL)) {
      assertFalse(every.getDescriptor().getPath().isEmpty());
    }
  }

  @Test
  void everyActionIsListedWithItsMeaning() {
    Map<String, String> actions =
        StreamSupport.stream(flight.listActions().spliterator(), false).collect(toMap(ActionType::getType, ActionType::getDescription));
    assertTrue(actions.keySet().containsAll(List.of("Train", "Score", "Evaluate", "WatchJob", "ListDatasets")), actions.toString());
    assertFalse(actions.containsValue(""), actions.toString());
  }

  @Test
  void aDataSetIsReadSideBySide() throws Exception {
    put("java_parts", "OVERWRITE", 0, 1_000);
    put("java_parts", "APPEND", 1_000, 1_000);
    put("java_parts", "APPEND", 2_000, 1_000);
    FlightDescriptor whole =
        FlightDescriptor.command(Volary.command("Read", Map.of("dataset", "java_parts", "columns", List.of("number"))));
    FlightInfo info = flight.getInfo(whole);
    assertEquals(3, info.getEndpoints().size());
    assertTrue(info.getOrdered());
    List<Long> read = new ArrayList<>();
    for (FlightEndpoint endpoint : info.getEndpoints()) {
      assertEquals(List.of(), endpoint.getLocations(), "the server that was asked");
      assertTrue(endpoint.getExpirationTime().isPresent());
      read.addAll(numbers(endpoint.getTicket()));
    }
    assertEquals(LongStream.range(0, 3_000).boxed().toList(), read);
  }

  @Test
  void aJobIsPolledAsALongRunningFlight() throws Exception {
    Field x = field("x", new ArrowType.FloatingPoint(FloatingPointPrecision.DOUBLE));
    Field y = field("y", new ArrowType.FloatingPoint(FloatingPointPrecision.DOUBLE));
    try (VectorSchemaRoot root = VectorSchemaRoot.create(new Schema(List.of(x, y)), volary.allocator())) {
      boolean[] sent = {false};
      volary.put("java_line", "OVERWRITE", root, new MapDictionaryProvider(), () -> {
        for (int row = 0; row < 1_000 && !sent[0]; row++) {
          ((Float8Vector) root.getVector("x")).setSafe(row, row / 1_000.0);
          ((Float8Vector) root.getVector("y")).setSafe(row, row / 500.0 + 1);
        }
        root.setRowCount(1_000);
        return !sent[0] && (sent[0] = true);
      });
    }
    byte[] train =
        """
        {"@type": "volary.v1.Train", "name": "java_line", "source": {"table": "java_line"}, "label": "y",
         "model": {"format_version": 1, "name": "line", "outputs": ["answer"], "layers": [
           {"name": "x", "layer": "Input"},
           {"name": "answer", "layer": "Dense", "config": {"units": 1}, "inputs": ["x"]}]},
         "loss": "mse", "optimizer": {"name": "adam", "learning_rate": 0.1}, "epochs": 20, "batch_size": 50}
        """
            .getBytes(StandardCharsets.UTF_8);
    PollInfo poll = flight.pollInfo(FlightDescriptor.command(train));
    List<Double> progress = new ArrayList<>(List.of(poll.getProgress().orElseThrow()));
    for (Optional<FlightDescriptor> next = poll.getFlightDescriptor(); next.isPresent(); next = poll.getFlightDescriptor()) {
      poll = flight.pollInfo(next.get());
      progress.add(poll.getProgress().orElseThrow());
    }
    assertEquals(progress.stream().sorted().toList(), progress);
    assertEquals(1.0, progress.get(progress.size() - 1));
    JsonNode job = Volary.read(poll.getFlightInfo().getAppMetadata());
    assertEquals("SUCCEEDED", job.get("state").asText(), job.toString());
    int[] epochs = {0};
    try (FlightStream history = flight.getStream(poll.getFlightInfo().getEndpoints().get(0).getTicket())) {
      while (history.next()) {
        epochs[0] += history.getRoot().getRowCount();
      }
    }
    assertEquals(20, epochs[0]);
    predict();
  }

  /** What the line that was trained answers: one batch for each, with its metadata. */
  private void predict() throws Exception {
    FlightDescriptor model = FlightDescriptor.command(Volary.command("Predict", Map.of("model", "java_line", "keep", List.of("x"))));
    Schema x = new Schema(List.of(field("x", new ArrowType.FloatingPoint(FloatingPointPrecision.DOUBLE))));
    try (VectorSchemaRoot root = VectorSchemaRoot.create(x, volary.allocator());
        FlightClient.ExchangeReaderWriter call = flight.doExchange(model)) {
      call.getWriter().start(root);
      FlightStream answers = call.getReader();
      for (int batch = 0; batch < 5; batch++) {
        root.allocateNew();
        for (int row = 0; row <= batch; row++) {
          ((Float8Vector) root.getVector("x")).setSafe(row, batch / 10.0);
        }
        root.setRowCount(batch + 1);
        byte[] number = ("batch " + batch).getBytes(StandardCharsets.UTF_8);
        ArrowBuf metadata = volary.allocator().buffer(number.length);
        metadata.writeBytes(number);
        call.getWriter().putNext(metadata); // takes the buffer
        assertTrue(answers.next());
        assertEquals(batch + 1, answers.getRoot().getRowCount());
        assertEquals(List.of("prediction", "x"), answers.getRoot().getSchema().getFields().stream().map(Field::getName).toList());
        assertEquals(batch / 10.0, ((Float8Vector) answers.getRoot().getVector("x")).get(batch));
        assertArrayEquals(number, Volary.bytes(answers.getLatestMetadata()));
      }
      call.getWriter().completed();
      assertFalse(answers.next());
    }
  }

  @Test
  void largeBatchesGoInWholeAndComeOutInMessagesThatEveryClientTakes() throws Exception {
    int rows = 2_000_000; // 16 MB in one message
    put("java_large", "OVERWRITE", 0, rows);
    long[] sum = {0};
    volary.read(FlightDescriptor.path("java_large"), batch -> {
      assertTrue(batch.getVector(0).getBufferSize() <= 2 << 20, batch.getRowCount() + " rows");
      BigIntVector numbers = (BigIntVector) batch.getVector(0);
      for (int row = 0; row < numbers.getValueCount(); row++) {
        sum[0] += numbers.get(row);
      }
    });
    assertEquals((rows - 1L) * rows / 2, sum[0]);
  }

  @Test
  void anUploadThatBreaksLeavesNothing() {
    try (VectorSchemaRoot root = VectorSchemaRoot.create(NUMBERS, volary.allocator())) {
      IOException broken = new IOException("the file ends in the middle of a line");
      int[] batches = {0};
      assertEquals(broken, assertThrows(IOException.class, () ->
          volary.put("java_broken", "ERROR", root, new MapDictionaryProvider(), () -> {
            if (batches[0]++ == 3) {
              throw broken;
            }
            fill(root, 0, 10);
            return true;
          })));
    }
    Server.awaitIdle(SOON);
    refused(FlightStatusCode.NOT_FOUND, "\"java_broken\"", () -> flight.getInfo(FlightDescriptor.path("java_broken")));
  }

  @Test
  void aStreamThatIsClosedBeforeItsEndStopsTheWork() throws Exception {
    try (FlightStream stream = flight.getStream(endless())) {
      assertTrue(stream.next());
      assertTrue(Server.requestsRunning() > 0);
    }
    Server.awaitIdle(Duration.ofSeconds(1));

    try (FlightStream stream = flight.getStream(endless())) {
      assertTrue(stream.next());
      stream.cancel("seen enough", null);
      FlightRuntimeException ended = assertThrows(FlightRuntimeException.class, () -> {
        while (stream.next()) {
          assertTrue(stream.getRoot().getRowCount() > 0);
        }
      });
      assertEquals(FlightStatusCode.CANCELLED, ended.status().code());
    }
    Server.awaitIdle(Duration.ofSeconds(1));
  }

  @Test
  void aCallThatTakesLongerThanItMayIsEndedOnTheServerToo() throws Exception {
    FlightRuntimeException late = assertThrows(FlightRuntimeException.class, () -> {
      try (FlightStream stream = flight.getStream(endless(), CallOptions.timeout(200, TimeUnit.MILLISECONDS))) {
        while (stream.next()) {
          assertTrue(stream.getRoot().getRowCount() > 0);
        }
      }
    });
    assertEquals(FlightStatusCode.TIMED_OUT, late.status().code(), late.getMessage());
    Server.awaitIdle(Duration.ofSeconds(1));
  }

  @Test
  void aQueryThatMultipliesItsRowsHoldsNobodyUpAndStops() throws Exception {
    String sql = "SELECT sum(a.value + b.value) FROM generate_series(1, 300000) a, generate_series(1, 300000) b";
    FlightRuntimeException late = assertThrows(FlightRuntimeException.class, () -> {
      Ticket product = new Ticket(Volary.command("Query", Map.of("sql", sql)));
      try (FlightStream stream = flight.getStream(product, CallOptions.timeout(2, TimeUnit.SECONDS))) {
        Server.awaitWork();
        long asked = System.nanoTime();
        volary.query("SELECT 1", rows -> assertEquals(1, rows.getRowCount()));
        Duration waited = Duration.ofNanos(System.nanoTime() - asked);
        assertTrue(waited.toMillis() < 1_500, "another query waited " + waited);
        stream.next();
      }
    });
    assertEquals(FlightStatusCode.TIMED_OUT, late.status().code(), late.getMessage());
    Server.awaitIdle(Duration.ofSeconds(1));
  }

  @Test
  void errorsAreTheServersWordsUnderTheirCode() {
    refused(FlightStatusCode.NOT_FOUND, "\"nothing\"", () -> flight.getInfo(FlightDescriptor.path("nothing")));
    refused(FlightStatusCode.NOT_FOUND, "\"nothing\"", () -> flight.getSchema(FlightDescriptor.path("nothing")));
    refused(FlightStatusCode.NOT_FOUND, "\"nothing\"", () -> volary.act("DropDataset", Map.of("name", "nothing")));
    refused(FlightStatusCode.INVALID_ARGUMENT, "nothing", () -> volary.query("SELECT nothing FROM java_numbers", rows -> {}));
    refused(FlightStatusCode.INVALID_ARGUMENT, "SELEC", () -> volary.query("SELEC 1", rows -> {}));
    refused(FlightStatusCode.ALREADY_EXISTS, "\"java_numbers\"", () -> put("java_numbers", "ERROR", 0, 1));
    refused(FlightStatusCode.INVALID_ARGUMENT, "\"not a name\"", () -> put("not a name", "ERROR", 0, 1));
    refused(FlightStatusCode.INVALID_ARGUMENT, "'epoch'", () -> volary.act("Train", Map.of("epoch", 1)));
    refused(FlightStatusCode.INVALID_ARGUMENT, "\"epochs\" is -1", () -> volary.act("Train", Map.of("epochs", -1)));
    refused(FlightStatusCode.INVALID_ARGUMENT, "Fly", () -> flight.doAction(new Action("Fly")).next());
    refused(FlightStatusCode.INVALID_ARGUMENT, "ticket", () -> numbers(new Ticket("neither JSON nor ours".getBytes(StandardCharsets.UTF_8))));
    refused(FlightStatusCode.NOT_FOUND, "\"nothing\"", () -> {
      try (FlightClient.ExchangeReaderWriter call = flight.doExchange(FlightDescriptor.path("models", "nothing"))) {
        call.getReader().next();
      }
    });
  }

  private static void refused(FlightStatusCode code, String words, Executable call) {
    FlightRuntimeException refused = assertThrows(FlightRuntimeException.class, call);
    assertEquals(code, refused.status().code(), refused.getMessage());
    assertTrue(refused.getMessage().contains(words), refused.getMessage());
    assertEquals(refused.status().description(), refused.getMessage());
  }

  /** A query of a trillion rows. */
  private static Ticket endless() {
    String sql = "SELECT value AS number FROM generate_series(1, 1000000000000)";
    return new Ticket(Volary.command("Query", Map.of("sql", sql)));
  }

  private static List<Long> numbers(Ticket ticket) throws Exception {
    List<Long> read = new ArrayList<>();
    try (FlightStream stream = flight.getStream(ticket)) {
      while (stream.next()) {
        FieldVector numbers = stream.getRoot().getVector("number");
        for (int row = 0; row < numbers.getValueCount(); row++) {
          read.add((Long) numbers.getObject(row));
        }
      }
    }
    return read;
  }

  /** Writes that many numbers from the first on, as one batch. */
  private static void put(String dataset, String mode, long first, int count) throws IOException {
    try (VectorSchemaRoot root = VectorSchemaRoot.create(NUMBERS, volary.allocator())) {
      boolean[] sent = {false};
      volary.put(dataset, mode, root, new MapDictionaryProvider(), () -> {
        if (sent[0]) {
          return false;
        }
        fill(root, first, count);
        sent[0] = true;
        return true;
      });
    }
  }

  private static void fill(VectorSchemaRoot root, long first, int count) {
    BigIntVector numbers = (BigIntVector) root.getVector(0);
    numbers.allocateNew(count);
    for (int row = 0; row < count; row++) {
      numbers.set(row, first + row);
    }
    root.setRowCount(count);
  }
}
