package dev.volary.example;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/**
 * One real server for all tests of a run: the program that VOLARY_BIN names, on ports that it takes itself. It is ready
 * when it says where it listens.
 */
public final class Server implements BeforeAllCallback {

  private static final Pattern LISTENING = Pattern.compile("listening grpc=(\\S+) http=(\\S+) name=");
  private static final HttpClient HTTP = HttpClient.newHttpClient();
  private static Running running;

  @Override
  public void beforeAll(ExtensionContext context) throws IOException {
    String program = System.getenv("VOLARY_BIN");
    Assumptions.assumeTrue(program != null, "VOLARY_BIN names no program; build it and set VOLARY_BIN");
    synchronized (Server.class) {
      if (running == null) {
        Running server = new Running(program);
        context.getRoot().getStore(ExtensionContext.Namespace.GLOBAL).put(Server.class, server);
        running = server;
      }
    }
  }

  /** One more server, with options of its own; to be closed. */
  static Running start(String... options) throws IOException {
    return new Running(System.getenv("VOLARY_BIN"), options);
  }

  /** Where Flight clients connect. */
  public static String url() {
    return "grpc://" + running.grpc;
  }

  /** {@code host:port} of the gRPC port. */
  public static String address() {
    return running.grpc;
  }

  /** Calls that the server is working on now, all verbs together. */
  public static long requestsRunning() {
    try {
      HttpRequest metrics = HttpRequest.newBuilder(URI.create("http://" + running.http + "/metrics")).build();
      return HTTP.send(metrics, BodyHandlers.ofLines())
          .body()
          .filter(line -> line.startsWith("volary_requests_running{"))
          .mapToLong(line -> (long) Double.parseDouble(line.substring(line.lastIndexOf(' ') + 1)))
          .sum();
    } catch (IOException unreachable) {
      throw new IllegalStateException(unreachable);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(interrupted);
    }
  }

  /** Returns once the server works on nothing; fails after this long. */
  public static void awaitIdle(Duration patience) {
    await(patience, "work on nothing", () -> requestsRunning() == 0);
  }

  /** Returns once the server works on something. */
  public static void awaitWork() {
    await(Duration.ofSeconds(30), "work on something", () -> requestsRunning() > 0);
  }

  private static void await(Duration patience, String what, BooleanSupplier done) {
    long deadline = System.nanoTime() + patience.toNanos();
    while (!done.getAsBoolean()) {
      if (System.nanoTime() > deadline) {
        throw new AssertionError("after " + patience + " the server does not " + what + ": " + requestsRunning() + " calls");
      }
      LockSupport.parkNanos(Duration.ofMillis(10).toNanos());
    }
  }

  static final class Running implements AutoCloseable {
    private final Path folder = Files.createTempDirectory("volary-java-");
    private final Process process;
    private final String grpc;
    private final String http;

    private Running(String program, String... options) throws IOException {
      Path log = folder.resolve("server.log");
      List<String> command =
          new ArrayList<>(
              List.of(
                  program, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--store",
                  folder.resolve("store").toString(), "--name", "java"));
      command.addAll(List.of(options));
      process = new ProcessBuilder(command).redirectError(log.toFile()).start();
      // A run that is killed must not leave a server behind.
      Runtime.getRuntime().addShutdownHook(new Thread(process::destroy));
      BufferedReader said = new BufferedReader(new InputStreamReader(process.getInputStream(), UTF_8));
      for (String line = said.readLine(); line != null; line = said.readLine()) {
        Matcher listening = LISTENING.matcher(line);
        if (listening.find()) {
          grpc = listening.group(1);
          http = listening.group(2);
          return;
        }
      }
      throw new IOException("the server did not start; its log says:\n" + Files.readString(log));
    }

    /** {@code host:port} of the gRPC port. */
    String address() {
      return grpc;
    }

    @Override
    public void close() throws IOException, InterruptedException {
      process.destroy();
      if (!process.waitFor(60, TimeUnit.SECONDS)) {
        process.destroyForcibly().waitFor();
      }
      try (Stream<Path> files = Files.walk(folder)) {
        for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
          Files.delete(file);
        }
      }
    }
  }
}
