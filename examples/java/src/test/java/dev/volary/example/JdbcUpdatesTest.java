package dev.volary.example;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.function.Executable;

/** Tables and models that are made, filled, asked and dropped in SQL. */
@ExtendWith(Server.class)
class JdbcUpdatesTest {

  private static Connection connection;

  @BeforeAll
  static void connect() throws Exception {
    try (Volary volary = new Volary(Server.url())) {
      Census.upload(volary, "java_sql_census");
    }
    connection = Jdbc.connect();
  }

  @AfterAll
  static void disconnect() throws SQLException {
    connection.close();
  }

  @BeforeEach
  void noTable() throws SQLException {
    update("DROP TABLE IF EXISTS java_made");
  }

  private static long update(String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      return statement.executeUpdate(sql);
    }
  }

  private static List<List<Object>> rows(String sql) throws SQLException {
    return Jdbc.rows(connection, sql);
  }

  private static void refused(String words, Executable call) {
    SQLException refused = assertThrows(SQLException.class, call);
    String said = refused.getMessage() + " / " + (refused.getCause() == null ? "" : refused.getCause().getMessage());
    assertTrue(said.contains(words), said);
  }

  @Test
  void aTableIsMadeFilledReadAndDropped() throws SQLException {
    assertEquals(3, update("CREATE TABLE java_made AS SELECT value AS number, 'row ' || value AS word FROM generate_series(1, 3)"));
    assertEquals(2, update("INSERT INTO java_made VALUES (4, 'four'), (5, NULL)"));
    assertEquals(1, update("INSERT INTO java_made SELECT 6, 'six'"));
    assertEquals(1, update("INSERT INTO java_made (word, number) VALUES ('seven', 7)"));
    assertEquals(
        List.of(List.of(7L, 6L, 28L)), rows("SELECT count(*) AS a, count(word) AS b, sum(number) AS c FROM java_made"));
    assertEquals(1, update("CREATE OR REPLACE TABLE java_made AS SELECT 1 AS one"));
    assertEquals(List.of(List.of(1L)), rows("SELECT * FROM java_made"));
    assertEquals(0, update("CREATE TABLE IF NOT EXISTS java_made AS SELECT 2 AS two"));
    assertEquals(List.of(List.of(1L)), rows("SELECT * FROM java_made"));
    assertEquals(0, update("DROP TABLE java_made"));
    refused("\"java_made\"", () -> rows("SELECT * FROM java_made"));
  }

  @Test
  void executeSaysThatThereIsNoResultButACount() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      assertFalse(statement.execute("CREATE TABLE java_made AS SELECT value FROM generate_series(1, 5)"));
      assertEquals(5, statement.getUpdateCount());
      assertFalse(statement.getMoreResults());
      assertEquals(-1, statement.getUpdateCount());
      // The same statement may ask next.
      assertTrue(statement.execute("SELECT count(*) FROM java_made"));
      assertEquals(List.of(List.of(5L)), Jdbc.rows(statement.getResultSet()));
    }
  }

  @Test
  void aPreparedInsertTakesItsValues() throws SQLException {
    update("CREATE TABLE java_made AS SELECT arrow_cast(0, 'Int32') AS id, 'x' AS word, 0.5 AS share, DATE '2025-01-01' AS day, "
        + "CAST(1.5 AS DECIMAL(10, 2)) AS price, true AS yes WHERE false");
    try (PreparedStatement insert = connection.prepareStatement("INSERT INTO java_made VALUES (?, ?, ?, ?, ?, ?)")) {
      assertEquals(6, insert.getParameterMetaData().getParameterCount());
      for (int row = 0; row < 3; row++) {
        bind(insert, row);
        assertEquals(1, insert.executeUpdate());
      }
    }
    assertEquals(
        List.of(List.of(2, "word 2", 1.0, Date.valueOf("2025-11-28"), new BigDecimal("2.25"), true)),
        rows("SELECT * FROM java_made WHERE id = 2"));
    assertEquals(List.of(List.of(3L)), rows("SELECT count(*) FROM java_made"));
  }

  private static void bind(PreparedStatement insert, int row) throws SQLException {
    insert.setInt(1, row);
    insert.setString(2, "word " + row);
    insert.setDouble(3, row / 2.0);
    insert.setDate(4, Date.valueOf(LocalDate.of(2025, 11, 26).plusDays(row)));
    insert.setBigDecimal(5, new BigDecimal(row + ".25"));
    insert.setBoolean(6, true);
  }

  @Test
  void aBatchIsOneVersionOfTheTable() throws Exception {
    update("CREATE TABLE java_made AS SELECT 0 AS id, 'x' AS word WHERE false");
    try (PreparedStatement insert = connection.prepareStatement("INSERT INTO java_made (id, word) VALUES (?, ?)")) {
      for (int row = 0; row < 1_000; row++) {
        insert.setLong(1, row);
        insert.setString(2, "word " + row);
        insert.addBatch();
      }
      // The driver sends a batch as one update and answers with its one count.
      assertArrayEquals(new int[] {1_000}, insert.executeBatch());
    }
    assertEquals(List.of(List.of(1_000L, 499_500L)), rows("SELECT count(DISTINCT word) AS a, sum(id) AS b FROM java_made"));
    try (Volary volary = new Volary(Server.url())) {
      volary.act("ListDatasets", Map.of(), each -> {
        if (each.get("name").asText().equals("java_made")) {
          assertEquals(1, each.get("version").asLong());
        }
      });
    }
  }

  @Test
  void aBatchOfTextsIsNotTheDriversToRun() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.addBatch("CREATE TABLE java_made AS SELECT 1 AS id");
      assertThrows(NullPointerException.class, statement::executeBatch);
    }
  }

  @Test
  void aNullIsInsertedAndAColumnThatIsLeftOutIsNull() throws SQLException {
    update("CREATE TABLE java_made AS SELECT 1 AS id, CAST(NULL AS VARCHAR) AS word, CAST(NULL AS DOUBLE) AS share");
    try (PreparedStatement insert = connection.prepareStatement("INSERT INTO java_made (id, word) VALUES (?, ?)")) {
      insert.setLong(1, 2);
      insert.setNull(2, Types.VARCHAR);
      assertEquals(1, insert.executeUpdate());
    }
    assertEquals(List.of(List.of(2L, 0L, 0L)), rows("SELECT count(*) AS a, count(word) AS b, count(share) AS c FROM java_made"));
  }

  @Test
  void whatCannotBeIsRefusedInTheServersWords() throws SQLException {
    update("CREATE TABLE java_made AS SELECT 1 AS one");
    refused("\"java_made\"", () -> update("CREATE TABLE java_made AS SELECT 2 AS two"));
    refused("\"nothing\"", () -> update("DROP TABLE nothing"));
    refused("\"nothing\"", () -> update("INSERT INTO nothing VALUES (1)"));
    refused("UPDATE", () -> update("UPDATE java_made SET one = 2"));
    refused("DELETE", () -> update("DELETE FROM java_made"));
    refused("ALTER", () -> update("ALTER TABLE java_made ADD COLUMN two INT"));
    refused("transaction", () -> update("BEGIN"));
    refused("files", () -> update("COPY java_made TO 'x.parquet'"));
    assertEquals(List.of(List.of(1L)), rows("SELECT * FROM java_made"));
  }

  @Test
  void aModelIsTrainedAskedAndDropped() throws SQLException {
    update("DROP MODEL IF EXISTS java_sql");
    long rows =
        update("CREATE MODEL java_sql OPTIONS (label = 'income', epochs = 2, batch_size = 256, seed = 7) AS "
            + "SELECT age, education, occupation, hours_per_week, capital_gain, income FROM java_sql_census");
    assertEquals(6_000, rows);
    try (Statement statement = connection.createStatement();
        ResultSet answers =
            statement.executeQuery("SELECT * FROM predict(model => 'java_sql', input => TABLE java_sql_census) LIMIT 10")) {
      int people = 0;
      while (answers.next()) {
        double probability = answers.getDouble("probability");
        assertTrue(probability >= 0 && probability <= 1);
        assertEquals(probability > 0.5 ? ">50K" : "<=50K", answers.getString("prediction"));
        assertTrue(answers.getInt("age") > 0);
        people++;
      }
      assertEquals(10, people);
    }
    // The scalar form takes the columns in the order of the model's inputs; a prepared statement takes people one by one.
    try (PreparedStatement one = connection.prepareStatement(
        "SELECT answer.prediction, answer.probability FROM (SELECT predict('java_sql', age, education, occupation, hours_per_week, "
            + "capital_gain) AS answer FROM java_sql_census WHERE age = ? AND education = ? LIMIT 1)")) {
      one.setLong(1, 39);
      one.setString(2, "Bachelors");
      try (ResultSet answer = one.executeQuery()) {
        assertTrue(answer.next());
        assertTrue(List.of(">50K", "<=50K").contains(answer.getString(1)));
      }
    }
    assertEquals(
        List.of(List.of(6_000L)),
        rows("SELECT count(*) FROM predict(model => 'java_sql', input => TABLE java_sql_census) WHERE probability BETWEEN 0 AND 1"));
    update("DROP MODEL java_sql");
    refused("\"java_sql\"", () -> rows("SELECT * FROM predict(model => 'java_sql', input => TABLE java_sql_census)"));
    refused("\"java_sql\"", () -> update("DROP MODEL java_sql"));
  }

  @Test
  void aModelThatCannotBeTrainedIsRefusedInTheServersWords() {
    refused("\"nothing\"", () -> update("CREATE MODEL java_bad OPTIONS (label = 'nothing') AS SELECT age, income FROM java_sql_census"));
    refused("\"epoch\"", () -> update("CREATE MODEL java_bad OPTIONS (label = 'income', epoch = 5) AS SELECT age, income FROM java_sql_census"));
    refused("label", () -> update("CREATE MODEL java_bad AS SELECT age, income FROM java_sql_census"));
  }
}
