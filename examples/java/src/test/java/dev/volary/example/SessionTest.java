package dev.volary.example;

import static dev.volary.example.Vectors.field;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.apache.arrow.flight.CancelFlightInfoRequest;
import org.apache.arrow.flight.CancelStatus;
import org.apache.arrow.flight.CloseSessionRequest;
import org.apache.arrow.flight.CloseSessionResult;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightEndpoint;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.GetSessionOptionsRequest;
import org.apache.arrow.flight.Location;
import org.apache.arrow.flight.PollInfo;
import org.apache.arrow.flight.RenewFlightEndpointRequest;
import org.apache.arrow.flight.SessionOptionValue;
import org.apache.arrow.flight.SessionOptionValueFactory;
import org.apache.arrow.flight.SetSessionOptionsRequest;
import org.apache.arrow.flight.SetSessionOptionsResult;
import org.apache.arrow.flight.client.ClientCookieMiddleware;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.Float8Vector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider.MapDictionaryProvider;
import org.apache.arrow.vector.types.FloatingPointPrecision;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Schema;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Flights that are cancelled, endpoints that are renewed, and options that last for a session. */
@ExtendWith(Server.class)
class SessionTest {

  private static final FlightDescriptor ENDLESS =
      FlightDescriptor.command(Volary.command("Query", Map.of("sql", JdbcConnectionTest.ENDLESS)));

  @Test
  void aFlightThatIsCancelledStopsWhoeverReadsIt() throws Exception {
    try (Volary volary = new Volary(Server.url())) {
      FlightClient flight = volary.flight();
      FlightInfo info = flight.getInfo(ENDLESS);
      try (FlightStream stream = flight.getStream(info.getEndpoints().get(0).getTicket())) {
        assertTrue(stream.next());
        assertEquals(CancelStatus.CANCELLED, flight.cancelFlightInfo(new CancelFlightInfoRequest(info)).getStatus());
        FlightRuntimeException cancelled = assertThrows(FlightRuntimeException.class, () -> drain(stream));
        assertEquals(FlightStatusCode.CANCELLED, cancelled.status().code(), cancelled.getMessage());
      }
      Server.awaitIdle(Duration.ofSeconds(1));
      FlightRuntimeException withdrawn =
          assertThrows(FlightRuntimeException.class, () -> {
            try (FlightStream stream = flight.getStream(info.getEndpoints().get(0).getTicket())) {
              drain(stream);
            }
          });
      assertTrue(withdrawn.getMessage().contains("cancelled"), withdrawn.getMessage());
    }
  }

  @Test
  void aJobThatIsPolledIsCancelledAsAFlight() throws Exception {
    try (Volary volary = new Volary(Server.url())) {
      ArrowType number = new ArrowType.FloatingPoint(FloatingPointPrecision.DOUBLE);
      try (VectorSchemaRoot root = VectorSchemaRoot.create(new Schema(List.of(field("x", number), field("y", number))), volary.allocator())) {
        boolean[] sent = {false};
        volary.put("java_cancelled", "OVERWRITE", root, new MapDictionaryProvider(), () -> {
          for (int row = 0; row < 1_000 && !sent[0]; row++) {
            ((Float8Vector) root.getVector("x")).setSafe(row, row);
            ((Float8Vector) root.getVector("y")).setSafe(row, 2 * row);
          }
          root.setRowCount(1_000);
          return !sent[0] && (sent[0] = true);
        });
      }
      byte[] train =
          """
          {"@type": "volary.v1.Train", "name": "java_cancelled", "source": {"table": "java_cancelled"}, "label": "y",
           "model": {"format_version": 1, "name": "line", "outputs": ["answer"], "layers": [
             {"name": "x", "layer": "Input"},
             {"name": "answer", "layer": "Dense", "config": {"units": 1}, "inputs": ["x"]}]},
           "loss": "mae", "optimizer": {"name": "adam", "learning_rate": 0.00001}, "epochs": 1000000, "batch_size": 50}
          """
              .getBytes(StandardCharsets.UTF_8);
      PollInfo poll = volary.flight().pollInfo(FlightDescriptor.command(train));
      FlightInfo running = poll.getFlightInfo();
      String id = Volary.read(running.getAppMetadata()).get("id").asText();
      CancelStatus status = volary.flight().cancelFlightInfo(new CancelFlightInfoRequest(running)).getStatus();
      assertTrue(List.of(CancelStatus.CANCELLED, CancelStatus.CANCELLING).contains(status), status.toString());
      List<String> states = volary.act("WatchJob", Map.of("id", id)).stream().map(job -> job.get("state").asText()).toList();
      assertEquals("CANCELLED", states.get(states.size() - 1));
      assertEquals(CancelStatus.CANCELLED, volary.flight().cancelFlightInfo(new CancelFlightInfoRequest(running)).getStatus());
    }
  }

  @Test
  void anEndpointThatIsRenewedIsReadWithItsNewTicket() throws Exception {
    try (Volary volary = new Volary(Server.url())) {
      FlightClient flight = volary.flight();
      FlightDescriptor one = FlightDescriptor.command(Volary.command("Query", Map.of("sql", "SELECT 1 AS one")));
      FlightEndpoint endpoint = flight.getInfo(one).getEndpoints().get(0);
      Instant expires = endpoint.getExpirationTime().orElseThrow();
      FlightEndpoint renewed = flight.renewFlightEndpoint(new RenewFlightEndpointRequest(endpoint));
      assertFalse(renewed.getExpirationTime().orElseThrow().isBefore(expires));
      try (FlightStream stream = flight.getStream(renewed.getTicket())) {
        assertTrue(stream.next());
        assertEquals(1L, stream.getRoot().getVector("one").getObject(0));
      }
    }
  }

  @Test
  void theActionsOfTheStandardAreListed() throws Exception {
    try (Volary volary = new Volary(Server.url())) {
      List<String> actions =
          StreamSupport.stream(volary.flight().listActions().spliterator(), false).map(action -> action.getType()).collect(Collectors.toList());
      assertTrue(
          actions.containsAll(List.of("CancelFlightInfo", "RenewFlightEndpoint", "SetSessionOptions", "GetSessionOptions", "CloseSession")),
          actions.toString());
    }
  }

  @Test
  void aSessionKeepsItsOptionsInACookie() throws Exception {
    try (BufferAllocator memory = new RootAllocator();
        FlightClient flight =
            FlightClient.builder(memory, new Location(Server.url())).intercept(new ClientCookieMiddleware.Factory()).build()) {
      SessionOptionValue catalog = SessionOptionValueFactory.makeSessionOptionValue("volary");
      SetSessionOptionsResult set =
          flight.setSessionOptions(
              new SetSessionOptionsRequest(
                  Map.of("catalog", catalog, "no_such_option", SessionOptionValueFactory.makeSessionOptionValue(true))));
      assertEquals(Map.of("no_such_option", SetSessionOptionsResult.ErrorValue.INVALID_NAME),
          set.getErrors().entrySet().stream().collect(Collectors.toMap(Map.Entry::getKey, error -> error.getValue().value)));
      assertEquals(catalog, flight.getSessionOptions(new GetSessionOptionsRequest()).getSessionOptions().get("catalog"));
      assertEquals(CloseSessionResult.Status.CLOSED, flight.closeSession(new CloseSessionRequest()).getStatus());
    }
  }

  private static void drain(FlightStream stream) {
    while (stream.next()) {
      assertTrue(stream.getRoot().getRowCount() >= 0);
    }
  }
}
