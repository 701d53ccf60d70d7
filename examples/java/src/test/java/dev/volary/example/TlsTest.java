package dev.volary.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Servers with certificates: one that shows its own, and one that asks clients for theirs. */
@ExtendWith(Server.class)
class TlsTest {

  @TempDir static Path folder;
  private static Certificates certificates;
  private static Server.Running open;
  private static Server.Running guarded;

  @BeforeAll
  static void start() throws IOException, InterruptedException, GeneralSecurityException {
    certificates = new Certificates(folder);
    certificates.issue("server");
    certificates.issue("client");
    String shown = certificates.file("server.pem").toString();
    String key = certificates.file("server.key").toString();
    open = Server.start("--tls-certificate", shown, "--tls-key", key);
    guarded = Server.start("--tls-certificate", shown, "--tls-key", key, "--tls-client-ca", certificates.root().toString());
  }

  @AfterAll
  static void stop() throws IOException, InterruptedException {
    if (open != null) {
      open.close();
    }
    if (guarded != null) {
      guarded.close();
    }
  }

  private static int members(String address, Consumer<FlightClient.Builder> with) throws InterruptedException {
    try (Volary volary = new Volary("grpc+tls://" + address, with)) {
      return volary.act("ListMembers", Map.of()).size();
    }
  }

  /** The file for a builder, which reads it when it builds. */
  private static InputStream read(Path file) {
    try {
      return new ByteArrayInputStream(Files.readAllBytes(file));
    } catch (IOException unreadable) {
      throw new UncheckedIOException(unreadable);
    }
  }

  private static void trusting(FlightClient.Builder builder) {
    builder.trustedCertificates(read(certificates.root()));
  }

  private static void showing(FlightClient.Builder builder) {
    trusting(builder);
    builder.clientCertificate(read(certificates.file("client.pem")), read(certificates.file("client.key")));
  }

  @Test
  void aFlightClientBelievesAServerByItsIssuer() throws InterruptedException {
    assertEquals(1, members(open.address(), TlsTest::trusting));
    assertEquals(1, members(open.address(), builder -> builder.verifyServer(false)));
    FlightRuntimeException refused =
        assertThrows(FlightRuntimeException.class, () -> members(open.address(), builder -> {}));
    assertEquals(FlightStatusCode.UNAVAILABLE, refused.status().code());
  }

  @Test
  void aFlightClientShowsItsOwnCertificateWhereItIsAskedForOne() throws InterruptedException {
    assertEquals(1, members(guarded.address(), TlsTest::showing));
    FlightRuntimeException refused =
        assertThrows(FlightRuntimeException.class, () -> members(guarded.address(), TlsTest::trusting));
    assertEquals(FlightStatusCode.UNAVAILABLE, refused.status().code());
  }

  @Test
  void aClientWithoutTlsIsRefusedByAPortThatHasIt() {
    FlightRuntimeException refused =
        assertThrows(FlightRuntimeException.class, () -> {
          try (Volary volary = new Volary("grpc://" + open.address())) {
            volary.act("ListMembers", Map.of());
          }
        });
    // What the client makes of TLS where it expects HTTP/2.
    assertTrue(refused.getMessage().contains("http2"), refused.getMessage());
  }

  private static List<List<Object>> one(String address, String parameters) throws SQLException {
    String url = "jdbc:arrow-flight-sql://" + address + "/" + parameters;
    try (Connection connection = DriverManager.getConnection(url)) {
      return Jdbc.rows(connection, "SELECT 1");
    }
  }

  @Test
  void jdbcEncryptsByDefaultAndTrustsWhomItIsTold() throws Exception {
    String trustStore = "&trustStore=" + certificates.trustStore() + "&trustStorePassword=" + Certificates.PASSWORD;
    String root = "tlsRootCerts=" + certificates.root();
    for (String parameters : List.of("?" + root, "?useEncryption=true&" + root, "?useEncryption=true&useSystemTrustStore=false" + trustStore)) {
      assertEquals(List.of(List.of(1L)), one(open.address(), parameters), parameters);
    }
    assertEquals(List.of(List.of(1L)), one(open.address(), "?disableCertificateVerification=true"));
  }

  @Test
  void jdbcShowsItsOwnCertificateWhereItIsAskedForOne() throws SQLException {
    String root = "?tlsRootCerts=" + certificates.root();
    String own = "&clientCertificate=" + certificates.file("client.pem") + "&clientKey=" + certificates.file("client.key");
    assertEquals(List.of(List.of(1L)), one(guarded.address(), root + own));
    assertThrows(SQLException.class, () -> one(guarded.address(), root));
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "?useEncryption=false"})
  void jdbcFailsWhereTheIssuerIsUnknownOrTlsIsOff(String parameters) {
    assertThrows(SQLException.class, () -> one(open.address(), parameters));
  }
}
