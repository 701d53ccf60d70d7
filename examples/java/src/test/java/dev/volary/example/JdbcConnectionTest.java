package dev.volary.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import javax.sql.PooledConnection;
import org.apache.arrow.driver.jdbc.ArrowFlightJdbcConnectionPoolDataSource;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** How connections begin, fail, are shared, are closed, and break. */
@ExtendWith(Server.class)
class JdbcConnectionTest {

  /** A trillion rows. */
  static final String ENDLESS = "SELECT value AS number FROM generate_series(1, 1000000000000)";

  /** One row, after so long that no test waits for it. */
  private static final String SILENT = "SELECT sum(number) FROM (" + ENDLESS + ")";

  private static final Duration ONE_SECOND = Duration.ofSeconds(1);

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "&user=me&password=secret",
        "&user=me",
        "&token=some.bearer.token",
        "&database=unknown&another_parameter=1",
        "&threadPoolSize=4&connectTimeoutMs=5000",
        "&retainCookies=false&retainAuth=false"
      })
  void aConnectionAnswers(String parameters) throws SQLException {
    try (Connection connection = DriverManager.getConnection(Jdbc.url(parameters))) {
      assertTrue(connection.isValid(5));
      assertEquals(List.of(List.of(1L)), Jdbc.rows(connection, "SELECT 1"));
    }
  }

  @Test
  void propertiesDoWhatTheUrlDoes() throws SQLException {
    Properties properties = new Properties();
    properties.setProperty("useEncryption", "false");
    properties.setProperty("user", "me");
    properties.setProperty("password", "secret");
    try (Connection connection = DriverManager.getConnection("jdbc:arrow-flight-sql://" + Server.address(), properties)) {
      assertEquals(List.of(List.of(1L)), Jdbc.rows(connection, "SELECT 1"));
    }
  }

  @Test
  void withoutUseEncryptionFalseTheDriverSpeaksTlsAndFails() throws SQLException {
    String url = "jdbc:arrow-flight-sql://" + Server.address() + "/";
    SQLException refused =
        assertThrows(SQLException.class, () -> {
          try (Connection connection = DriverManager.getConnection(url)) {
            Jdbc.rows(connection, "SELECT 1");
          }
        });
    assertNotNull(refused.getMessage());
  }

  @Test
  void aRefusedStatementHasTheServersWords() throws SQLException {
    try (Connection connection = Jdbc.connect();
        Statement statement = connection.createStatement()) {
      assertRefused("there is no dataset \"nothing\"", () -> statement.executeQuery("SELECT * FROM nothing"));
      assertRefused("Expected: an SQL statement, found: SELEC", () -> statement.executeQuery("SELEC 1"));
      assertRefused("there is no column \"nothing\"", () -> statement.executeQuery("SELECT nothing FROM (SELECT 1 AS one)"));
      assertRefused("there is no dataset \"nothing\"", () -> connection.prepareStatement("SELECT * FROM nothing WHERE a = ?"));
      assertRefused("Divide by zero", () -> {
        try (ResultSet results = statement.executeQuery("SELECT 1 / (value - 5) FROM generate_series(1, 10)")) {
          Jdbc.rows(results);
        }
      });
      // A connection outlives what was refused on it.
      assertEquals(List.of(List.of(1L)), Jdbc.rows(connection, "SELECT 1"));
    }
  }

  /** The server's words are the message, or that of the cause where the driver says only what it was doing. */
  private static void assertRefused(String words, org.junit.jupiter.api.function.Executable call) {
    SQLException refused = assertThrows(SQLException.class, call);
    String said = refused.getMessage() + " / " + (refused.getCause() == null ? "" : refused.getCause().getMessage());
    assertTrue(said.contains(words), said);
  }

  @Test
  void noServerIsAnErrorAtTheFirstStatement() {
    SQLException refused =
        assertThrows(SQLException.class, () -> {
          try (Connection connection = DriverManager.getConnection("jdbc:arrow-flight-sql://127.0.0.1:1/?useEncryption=false")) {
            Jdbc.rows(connection, "SELECT 1");
          }
        });
    assertNotNull(refused.getMessage());
  }

  @Test
  void aResultThatIsClosedEarlyStopsTheWork() throws SQLException {
    try (Connection connection = Jdbc.connect()) {
      try (Statement statement = connection.createStatement();
          ResultSet results = statement.executeQuery(ENDLESS)) {
        assertTrue(results.next());
        assertTrue(Server.requestsRunning() > 0);
      }
      Server.awaitIdle(ONE_SECOND);
      assertEquals(List.of(List.of(1L)), Jdbc.rows(connection, "SELECT 1"));
    }
  }

  @Test
  void aConnectionMayBeClosedBeforeItsStatementsAndResults() throws SQLException {
    Connection connection = Jdbc.connect();
    Statement statement = connection.createStatement();
    PreparedStatement prepared = connection.prepareStatement("SELECT value FROM generate_series(1, 10) WHERE value > ?");
    ResultSet results = statement.executeQuery(ENDLESS);
    assertTrue(results.next());
    results.close();
    prepared.close();
    statement.close();
    connection.close();
    connection.close();
    assertTrue(connection.isClosed());
    Server.awaitIdle(ONE_SECOND);
  }

  @Test
  void aStatementIsCancelledWhileItsRowsAreRead() throws Exception {
    try (Connection connection = Jdbc.connect();
        Statement statement = connection.createStatement();
        ResultSet results = statement.executeQuery(ENDLESS)) {
      assertTrue(results.next());
      statement.cancel();
      assertThrows(SQLException.class, () -> {
        while (results.next()) {
          results.getLong(1);
        }
      });
      Server.awaitIdle(ONE_SECOND);
    }
  }

  @Test
  void aStatementThatSaysNothingIsCancelledFromAnotherThread() throws Exception {
    ExecutorService other = Executors.newSingleThreadExecutor();
    try (Connection connection = Jdbc.connect();
        Statement statement = connection.createStatement()) {
      Future<ResultSet> waiting = other.submit(() -> statement.executeQuery(SILENT));
      Server.awaitWork();
      while (!waiting.isDone() && Server.requestsRunning() > 0) {
        statement.cancel(); // does nothing before the driver has asked for the rows
      }
      assertThrows(ExecutionException.class, () -> waiting.get(30, TimeUnit.SECONDS));
      Server.awaitIdle(ONE_SECOND);
    } finally {
      other.shutdownNow();
    }
  }

  @Test
  void aProgramThatIsKilledInTheMiddleOfAResultLeavesNothingRunning() throws Exception {
    for (String sql : List.of(ENDLESS, SILENT)) {
      Process program =
          new ProcessBuilder(
                  Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                  "--add-opens=java.base/java.nio=ALL-UNNAMED", "-XX:TieredStopAtLevel=1",
                  "-classpath", System.getProperty("java.class.path"), Abandoned.class.getName(), Jdbc.url(""), sql)
              .redirectError(ProcessBuilder.Redirect.DISCARD)
              .start();
      BufferedReader said = new BufferedReader(new InputStreamReader(program.getInputStream(), StandardCharsets.UTF_8));
      assertEquals("asked", said.readLine());
      Server.awaitWork();
      program.destroyForcibly().waitFor();
      Server.awaitIdle(ONE_SECOND);
    }
  }

  /** A program that asks and never comes to the end of the answer. */
  static final class Abandoned {
    public static void main(String[] arguments) throws Exception {
      try (Connection connection = DriverManager.getConnection(arguments[0]);
          Statement statement = connection.createStatement()) {
        connection.isValid(5);
        System.out.println("asked");
        try (ResultSet results = statement.executeQuery(arguments[1])) {
          while (results.next()) {
            results.getLong(1);
          }
        }
      }
    }
  }

  @Test
  void connectionsOfAPoolAreUsedAgainAndAgainFromManyThreads() throws Exception {
    String[] hostAndPort = Server.address().split(":");
    Properties properties = new Properties();
    properties.setProperty("host", hostAndPort[0]);
    properties.setProperty("port", hostAndPort[1]);
    properties.setProperty("useEncryption", "false");
    properties.setProperty("user", "me");
    properties.setProperty("password", "secret");
    ArrowFlightJdbcConnectionPoolDataSource pool = ArrowFlightJdbcConnectionPoolDataSource.createNewDataSource(properties);
    ExecutorService threads = Executors.newFixedThreadPool(4);
    try {
      List<Future<Long>> answers = new ArrayList<>();
      for (long task = 0; task < 40; task++) {
        long number = task;
        answers.add(threads.submit(() -> {
          PooledConnection pooled = pool.getPooledConnection("me", "secret");
          try (Connection connection = pooled.getConnection();
              PreparedStatement statement = connection.prepareStatement("SELECT ? + 1 AS next")) {
            statement.setLong(1, number);
            try (ResultSet results = statement.executeQuery()) {
              assertTrue(results.next());
              return results.getLong("next");
            }
          }
        }));
      }
      for (int task = 0; task < answers.size(); task++) {
        assertEquals(task + 1L, answers.get(task).get());
      }
    } finally {
      threads.shutdownNow();
      pool.close();
    }
    Server.awaitIdle(ONE_SECOND);
  }

  @Test
  void thereAreNoTransactions() throws SQLException {
    try (Connection connection = Jdbc.connect()) {
      assertTrue(connection.getAutoCommit());
      assertEquals(Connection.TRANSACTION_NONE, connection.getTransactionIsolation());
      assertFalse(connection.getMetaData().supportsTransactions());
    }
  }
}
