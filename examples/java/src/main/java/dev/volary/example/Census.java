package dev.volary.example;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;
import java.util.zip.GZIPInputStream;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.vector.BigIntVector;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.Float4Vector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider.MapDictionaryProvider;
import org.apache.arrow.vector.types.pojo.ArrowType;
import org.apache.arrow.vector.types.pojo.Field;
import org.apache.arrow.vector.types.pojo.Schema;

/**
 * Who earned more than $50,000 in the US census of 1994? Uploads a table, looks at it with SQL, trains a network on the
 * servers, scores the table there and reads the answers.
 *
 * <p>{@code mvn -q compile exec:exec -Dserver=grpc://127.0.0.1:50051}
 */
public final class Census {

  private static final int ROWS_PER_BATCH = 2048;
  private static final List<String> NUMBERS = List.of("age", "capital_gain", "capital_loss", "hours_per_week");

  private Census() {}

  /** The job, on the server that is named. */
  public static void main(String[] arguments) throws Exception {
    String server = arguments.length > 0 ? arguments[0] : "grpc://127.0.0.1:50051";
    try (Volary volary = new Volary(server)) {
      JsonNode written = upload(volary, "java_census");
      System.out.printf("uploaded %,d rows, version %d%n", written.get("rows").asLong(), written.get("version").asLong());

      String sql = "SELECT education, count(*) AS people FROM java_census GROUP BY education ORDER BY people DESC LIMIT 3";
      volary.query(sql, rows -> System.out.print(rows.contentToTSVString()));

      JsonNode job = train(volary, "java_census", "java_census");
      System.out.printf("model java_census, version %d%n", job.get("version").asLong());

      long likely = score(volary, "java_census", "java_census", "java_scored");
      System.out.printf("%,d people probably earn more than $50,000%n", likely);
    }
  }

  /** Streams the rows that come with this example to the server. */
  static JsonNode upload(Volary volary, String dataset) throws IOException {
    Field[] fields =
        Stream.of("age", "workclass", "education", "marital_status", "occupation", "capital_gain", "capital_loss",
                "hours_per_week", "income")
            .map(name -> Field.nullable(name, NUMBERS.contains(name) ? new ArrowType.Int(64, true) : new ArrowType.Utf8()))
            .toArray(Field[]::new);
    try (BufferedReader lines =
            new BufferedReader(new InputStreamReader(new GZIPInputStream(resource("/census.csv.gz")), UTF_8));
        VectorSchemaRoot root = VectorSchemaRoot.create(new Schema(List.of(fields)), volary.allocator())) {
      lines.readLine(); // the header
      return volary.put(dataset, "OVERWRITE", root, new MapDictionaryProvider(), () -> fill(root, lines));
    }
  }

  private static boolean fill(VectorSchemaRoot root, BufferedReader lines) throws IOException {
    root.allocateNew();
    int row = 0;
    for (String line; row < ROWS_PER_BATCH && (line = lines.readLine()) != null; row++) {
      String[] cells = line.split(",", -1);
      for (int column = 0; column < cells.length; column++) {
        if (!cells[column].isEmpty()) { // else it stays null
          set(root.getVector(column), row, cells[column]);
        }
      }
    }
    root.setRowCount(row);
    return row > 0;
  }

  private static void set(FieldVector vector, int row, String cell) {
    if (vector instanceof BigIntVector numbers) {
      numbers.setSafe(row, Long.parseLong(cell));
    } else if (vector instanceof VarCharVector words) {
      words.setSafe(row, cell.getBytes(UTF_8));
    }
  }

  /** Trains a network on all servers and shows how it gets on; answers the job in its final state. */
  static JsonNode train(Volary volary, String dataset, String model) {
    String train =
        """
        {
          "@type": "volary.v1.Train",
          "name": "%s",
          "source": {"table": "%s"},
          "label": "income",
          "pipeline": [
            {"transform": "impute", "columns": ["age", "capital_gain", "hours_per_week"], "strategy": "median"},
            {"transform": "standardize", "columns": ["age", "capital_gain", "capital_loss", "hours_per_week"]},
            {"transform": "one_hot", "columns": ["workclass", "education", "marital_status", "occupation"]}
          ],
          "model": {
            "format_version": 1,
            "name": "census",
            "layers": [
              {"name": "people", "layer": "Input"},
              {"name": "hidden", "layer": "Dense", "config": {"units": 32, "activation": "relu"}, "inputs": ["people"]},
              {"name": "answer", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["hidden"]}
            ],
            "outputs": ["answer"]
          },
          "loss": "binary_crossentropy",
          "optimizer": {"name": "adam", "learning_rate": 0.003},
          "metrics": ["auc"],
          "epochs": 5,
          "batch_size": 256,
          "validation_split": 0.1
        }
        """
            .formatted(model, dataset);
    JsonNode job = volary.act("Train", train).get(0);
    return watch(volary, job);
  }

  /** Shows the progress of a job until it ends; answers its final state. */
  private static JsonNode watch(Volary volary, JsonNode job) {
    JsonNode[] last = {job};
    volary.act("WatchJob", Map.of("id", job.get("id").asText()), state -> {
      if (!state.get("progress").equals(last[0].get("progress"))) {
        JsonNode metrics = state.get("metrics");
        System.out.printf("%4.0f %% %s%n", 100 * state.get("progress").asDouble(),
            metrics.has("loss") ? "loss " + metrics.get("loss") + ", AUC of the rows held out " + metrics.get("val_auc") : "");
      }
      last[0] = state;
    });
    if (!last[0].get("state").asText().equals("SUCCEEDED")) {
      throw new IllegalStateException("the job " + last[0].get("state").asText() + ": " + last[0].get("error"));
    }
    return last[0];
  }

  /** Writes the model's answers for a table beside it and counts those above one half. */
  static long score(Volary volary, String model, String dataset, String into) {
    JsonNode job =
        volary.act("Score", Map.of(
                "model", model, "source", Map.of("table", dataset), "into", into, "keep", List.of("age"),
                "mode", "OVERWRITE"))
            .get(0);
    watch(volary, job);
    long[] likely = {0};
    volary.read(FlightDescriptor.path(into), rows -> {
      Float4Vector probability = (Float4Vector) rows.getVector("probability");
      for (int row = 0; row < rows.getRowCount(); row++) {
        likely[0] += probability.get(row) > 0.5 ? 1 : 0;
      }
    });
    return likely[0];
  }

  private static InputStream resource(String name) {
    return Objects.requireNonNull(Census.class.getResourceAsStream(name), name);
  }
}
