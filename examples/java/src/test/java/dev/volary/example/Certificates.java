package dev.volary.example;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;

/** An issuer of certificates and what it issued, made by the JDK's keytool: a key store, and its entries as PEM files. */
final class Certificates {

  static final String PASSWORD = "changeit";

  private final Path folder;
  private final Path store;

  Certificates(Path folder) throws IOException, InterruptedException, GeneralSecurityException {
    this.folder = folder;
    store = folder.resolve("all.p12");
    keytool("-genkeypair", "-alias", "ca", "-dname", "CN=ca", "-ext", "bc:c", "-keyalg", "EC", "-groupname", "secp256r1");
    export("ca");
  }

  /** The issuer's certificate. */
  Path root() {
    return folder.resolve("ca.pem");
  }

  /** A certificate for 127.0.0.1, {@code name.pem}, with its key, {@code name.key}. */
  void issue(String name) throws IOException, InterruptedException, GeneralSecurityException {
    keytool("-genkeypair", "-alias", name, "-dname", "CN=" + name, "-keyalg", "EC", "-groupname", "secp256r1");
    String request = folder.resolve("request.csr").toString();
    String answer = folder.resolve("answer.pem").toString();
    keytool("-certreq", "-alias", name, "-file", request);
    keytool("-gencert", "-alias", "ca", "-ext", "san=ip:127.0.0.1", "-infile", request, "-outfile", answer, "-rfc");
    keytool("-importcert", "-noprompt", "-alias", name, "-file", answer);
    export(name);
  }

  /** A file of {@link #issue}. */
  Path file(String name) {
    return folder.resolve(name);
  }

  /** A key store that holds the issuer's certificate alone. */
  Path trustStore() throws IOException, InterruptedException {
    Path trust = folder.resolve("trust.p12");
    run(trust, "-importcert", "-noprompt", "-alias", "volary", "-file", root().toString());
    return trust;
  }

  private void export(String name) throws IOException, GeneralSecurityException {
    KeyStore keys = KeyStore.getInstance("PKCS12");
    try (InputStream stored = Files.newInputStream(store)) {
      keys.load(stored, PASSWORD.toCharArray());
    }
    Files.writeString(file(name + ".pem"), pem("CERTIFICATE", keys.getCertificate(name).getEncoded()));
    Files.writeString(file(name + ".key"), pem("PRIVATE KEY", keys.getKey(name, PASSWORD.toCharArray()).getEncoded()));
  }

  private static String pem(String label, byte[] bytes) {
    String lines = Base64.getMimeEncoder(64, "\n".getBytes(UTF_8)).encodeToString(bytes);
    return "-----BEGIN " + label + "-----\n" + lines + "\n-----END " + label + "-----\n";
  }

  private void keytool(String... arguments) throws IOException, InterruptedException {
    run(store, arguments);
  }

  private static void run(Path store, String... arguments) throws IOException, InterruptedException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "keytool").toString());
    command.addAll(List.of(arguments));
    command.addAll(List.of("-keystore", store.toString(), "-storetype", "PKCS12", "-storepass", PASSWORD));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), UTF_8);
    if (process.waitFor() != 0) {
      throw new IOException(command + " failed: " + said);
    }
  }
}
