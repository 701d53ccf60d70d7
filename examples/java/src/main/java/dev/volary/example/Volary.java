package dev.volary.example;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.function.Consumer;
import org.apache.arrow.flight.Action;
import org.apache.arrow.flight.CallStatus;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightEndpoint;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Location;
import org.apache.arrow.flight.PutResult;
import org.apache.arrow.flight.Result;
import org.apache.arrow.flight.SyncPutListener;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider;

/**
 * A connection to a Volary server with Arrow's Flight client and nothing else.
 *
 * <p>Commands and actions are JSON ({@code {"@type": "volary.v1.Train", ...}}), so there is no generated code. Copy what
 * you need. It knows nothing of any data set; what every command takes is told in docs/protocol.md.
 *
 * <p>Errors are {@link FlightRuntimeException}s: {@code status().code()} is the code, {@code getMessage()} the server's
 * own words.
 */
public final class Volary implements AutoCloseable {

  private static final ObjectMapper JSON = new ObjectMapper();

  private final BufferAllocator allocator = new RootAllocator();
  private final FlightClient client;

  /**
   * Connects to any server of a cluster; each answers for all.
   *
   * @param url {@code grpc://host:port}, or {@code grpc+tls://host:port}
   */
  public Volary(String url) {
    this(url, builder -> {});
  }

  /**
   * Connects to any server of a cluster, with more than an address.
   *
   * @param with what else the client is told: {@code builder.trustedCertificates(...)}, {@code
   *     builder.clientCertificate(...)}
   */
  public Volary(String url, Consumer<FlightClient.Builder> with) {
    FlightClient.Builder builder = FlightClient.builder(allocator, new Location(URI.create(url)));
    with.accept(builder);
    client = builder.build();
  }

  /** The memory that vectors of this connection live in. */
  public BufferAllocator allocator() {
    return allocator;
  }

  /** Arrow's client, for the calls that need no help. */
  public FlightClient flight() {
    return client;
  }

  /** A command for a descriptor or a ticket. */
  public static byte[] command(String message, Map<String, ?> fields) {
    ObjectNode command = JSON.createObjectNode().put("@type", "volary.v1." + message);
    return bytes(command.setAll((ObjectNode) JSON.valueToTree(fields)));
  }

  /** What an action answers, one JSON object after the other, as they come: {@code WatchJob} goes on until the job ends. */
  public void act(String action, Map<String, ?> fields, Consumer<JsonNode> onAnswer) {
    client.doAction(new Action(action, bytes(JSON.valueToTree(fields))))
        .forEachRemaining((Result answer) -> onAnswer.accept(read(answer.getBody())));
  }

  /** What an action answers, of a body that is JSON already. */
  public List<JsonNode> act(String action, String body) {
    List<JsonNode> answers = new ArrayList<>();
    client.doAction(new Action(action, body.getBytes(UTF_8))).forEachRemaining(answer -> answers.add(read(answer.getBody())));
    return answers;
  }

  /** What an action answers, all of it. */
  public List<JsonNode> act(String action, Map<String, ?> fields) {
    List<JsonNode> answers = new ArrayList<>();
    act(action, fields, answers::add);
    return answers;
  }

  /** Fills the vectors of an upload with its next rows, sets their count, and says whether there were any. */
  @FunctionalInterface
  public interface Batches {
    boolean next() throws IOException;
  }

  /**
   * Writes rows as one new version of a data set. Nothing is seen of them before this returns, and nothing is left if
   * it throws.
   *
   * @param mode {@code ERROR} (when it exists), {@code APPEND} or {@code OVERWRITE}
   * @param root the vectors that {@code batches} fills, again and again
   * @return the server's last word: {@code {"rows": n, "version": v}}
   */
  public JsonNode put(
      String dataset, String mode, VectorSchemaRoot root, DictionaryProvider dictionaries, Batches batches)
      throws IOException {
    FlightDescriptor descriptor =
        FlightDescriptor.command(command("Put", Map.of("dataset", dataset, "mode", mode)));
    try (SyncPutListener answers = new SyncPutListener()) {
      FlightClient.ClientStreamListener writer = client.startPut(descriptor, root, dictionaries, answers);
      try {
        JsonNode last = null;
        for (int ahead = 0; batches.next(); ) {
          // putNext does not wait for the network. The server answers every batch, so waiting for the answer to the one
          // before keeps two on their way and no more.
          writer.putNext();
          if (++ahead > 2) {
            last = answer(answers);
            ahead--;
          }
        }
        writer.completed();
        for (JsonNode answer = answer(answers); answer != null; answer = answer(answers)) {
          last = answer;
        }
        return last;
      } catch (IOException | RuntimeException broken) {
        // Cancels the call, without which the server would take the rows so far for all of them.
        writer.error(CallStatus.CANCELLED.withDescription("the upload was given up").toRuntimeException());
        try {
          writer.getResult(); // answers that are on their way still need the listener
        } catch (FlightRuntimeException ended) {
          if (ended != broken) {
            broken.addSuppressed(ended);
          }
        }
        throw broken;
      }
    }
  }

  /** The next answer to an upload; null when the server has said its last word. */
  private static JsonNode answer(SyncPutListener answers) {
    try (PutResult answer = answers.read()) {
      return answer == null ? null : read(bytes(answer.getApplicationMetadata()));
    } catch (ExecutionException refused) {
      if (refused.getCause() instanceof FlightRuntimeException cause) {
        throw cause;
      }
      throw new IllegalStateException(refused.getCause());
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while the server answered", interrupted);
    }
  }

  /**
   * Reads everything that a descriptor names, one record batch at a time.
   *
   * @param onBatch sees the same vectors every time, with other rows in them
   */
  public void read(FlightDescriptor descriptor, Consumer<VectorSchemaRoot> onBatch) {
    for (FlightEndpoint endpoint : client.getInfo(descriptor).getEndpoints()) {
      try (FlightStream stream = client.getStream(endpoint.getTicket())) {
        while (stream.next()) {
          onBatch.accept(stream.getRoot());
        }
      } catch (RuntimeException refused) {
        throw refused;
      } catch (Exception closing) {
        throw new IllegalStateException(closing);
      }
    }
  }

  /** Reads the rows of a SQL query. */
  public void query(String sql, Consumer<VectorSchemaRoot> onBatch) {
    read(FlightDescriptor.command(command("Query", Map.of("sql", sql))), onBatch);
  }

  /** The bytes of an {@code app_metadata}. */
  public static byte[] bytes(ArrowBuf buffer) {
    byte[] bytes = new byte[(int) buffer.readableBytes()];
    buffer.getBytes(buffer.readerIndex(), bytes);
    return bytes;
  }

  /** A JSON answer. */
  public static JsonNode read(byte[] answer) {
    try {
      return JSON.readTree(answer);
    } catch (IOException unreadable) {
      throw new IllegalStateException("the server did not answer in JSON: " + new String(answer, UTF_8), unreadable);
    }
  }

  private static byte[] bytes(JsonNode json) {
    try {
      return JSON.writeValueAsBytes(json);
    } catch (JsonProcessingException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  @Override
  public void close() throws InterruptedException {
    client.close();
    allocator.close();
  }
}
