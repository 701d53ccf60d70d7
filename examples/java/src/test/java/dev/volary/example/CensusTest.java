package dev.volary.example;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** The example as a reader runs it. */
@ExtendWith(Server.class)
class CensusTest {

  @Test
  void theExampleUploadsTrainsWatchesScoresAndReads() throws Exception {
    PrintStream console = System.out;
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    System.setOut(new PrintStream(printed, true));
    try {
      Census.main(new String[] {Server.url()});
    } finally {
      System.setOut(console);
    }
    String said = printed.toString();
    assertTrue(said.contains("uploaded 6,000 rows, version 0"), said);
    assertTrue(said.contains("100 %"), said);
    assertTrue(said.contains("model java_census, version 1"), said);
    assertTrue(said.contains("people probably earn more than $50,000"), said);
  }
}
