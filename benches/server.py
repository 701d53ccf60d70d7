"""The built binary as a process, and the few Flight calls that the benches make, with pyarrow alone."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pyarrow.flight as flight

ROOT = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("VOLARY_BIN", ROOT / "target/release/volary"))
TYPE_PREFIX = "type.googleapis.com/volary.v1."
READY_WITHIN_SECONDS = 30


def command(message, **fields):
    """A command's JSON bytes."""
    return json.dumps({"@type": TYPE_PREFIX + message, **fields}).encode()


class Server:
    """`volary serve` on free ports until the block ends."""

    def __init__(self, store, *options, threads=2, trust=None):
        """`trust` is what a client is told of the certificate that the options name."""
        self.log = Path(store).parent / f"{Path(store).name}.log"
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [BINARY, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--store", str(store)]
            + ["--threads", str(threads), *options],
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )
        try:
            self.grpc, self.http = self._addresses()
            self._wait_until_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.seconds_to_ready = time.perf_counter() - self.started
        self.url = f"{'grpc+tls' if trust else 'grpc'}://{self.grpc}"
        self.client = flight.connect(self.url, **(trust or {}))

    def _addresses(self):
        for line in self.process.stdout:
            if found := re.search(r"listening grpc=(\S+) http=(\S+)", line):
                return found.groups()
        raise RuntimeError(f"the server ended before it listened; see {self.log}")

    def _wait_until_ready(self):
        while time.perf_counter() - self.started < READY_WITHIN_SECONDS:
            try:
                with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            time.sleep(0.002)
        raise RuntimeError(f"the server was not ready within {READY_WITHIN_SECONDS} s; see {self.log}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def resident_bytes(self):
        """VmRSS of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def act(self, action, **body):
        """The answers of an action as objects."""
        answers = self.client.do_action(flight.Action(action, json.dumps(body).encode()))
        return [json.loads(answer.body.to_pybytes()) for answer in answers]

    def run_job(self, action, **body):
        """Starts a job, waits for its end, and answers its last status."""
        (job,) = self.act(action, **body)
        last = self.act("WatchJob", id=job["id"])[-1]
        if last["state"] != "SUCCEEDED":
            raise RuntimeError(f"{action} ended {last['state']}: {last.get('error')}")
        return last

    def put(self, dataset, table, chunk_rows=65_536):
        """DoPut with commit; returns once the commit is acknowledged."""
        put(self.client, flight.FlightDescriptor.for_command(command("Put", dataset=dataset, mode="OVERWRITE")), table, chunk_rows)


def put(client, descriptor, table, chunk_rows=65_536):
    """Writes a table as one stream and waits for the server's last word."""
    writer, _ = client.do_put(descriptor, table.schema)
    with writer:
        writer.write_table(table, max_chunksize=chunk_rows)
        writer.done_writing()
