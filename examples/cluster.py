"""Start and stop `volary serve` processes on this machine: used by the demo and by the tests against real servers.

A cluster is returned when each of its servers sees all the others.

    with Cluster(servers=3, store="demo-out/store", logs="demo-out") as cluster:
        client = cluster.connect()
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import volary

LISTENING = re.compile(r"listening grpc=(\S+) http=(\S+) name=\S+ url=(\S+)")
START_SECONDS = 60.0
STOP_SECONDS = 60.0


def binary() -> Path | None:
    """The program: VOLARY_BIN, else the release build, else `volary` on the path."""
    if given := os.environ.get("VOLARY_BIN"):
        return Path(given)
    root = Path(__file__).resolve().parent.parent
    built = Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "release" / "volary"
    on_path = shutil.which("volary")
    return built if built.exists() else Path(on_path) if on_path else None


class Server:
    """One `volary serve` process. Its port is free until it says which one it took."""

    def __init__(
        self, name: str, store: str | Path, logs: str | Path, join: Sequence[str] = (), options: Sequence[str] = ()
    ) -> None:
        program = binary()
        if program is None:
            raise FileNotFoundError("there is no volary program; build it, or set VOLARY_BIN")
        self.name = name
        self.log = Path(logs) / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(program), "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        command += ["--store", str(store), "--name", name, *options]
        for seed in join:
            command += ["--join", seed]
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        patience = threading.Timer(START_SECONDS, self.process.kill)
        patience.start()
        try:
            self.grpc, self.http, self.url = self._listening()
        finally:
            patience.cancel()
        self.start_seconds = time.monotonic() - began

    def _listening(self) -> tuple[str, str, str]:
        """Addresses of the two ports, and where clients connect."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := LISTENING.search(line):
                return found[1], found[2], found[3]
        self.process.wait()
        self.process.stdout.close()
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"server {self.name} did not start (exit {self.process.returncode}); its log ends:\n{tail}")

    def terminate(self) -> None:
        """Ask it to drain and exit; `stop` waits for that."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut does."""
        self.process.kill()
        self.stop()

    def stop(self) -> int:
        """Drain if it still runs; answers the exit code."""
        if self.process.poll() is None:
            self.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


class Cluster:
    """Equal servers that share one store; the later ones join the first.

    `connecting` is what `volary.connect` is given besides the address: certificates, where the options ask for TLS.
    """

    def __init__(
        self,
        servers: int,
        store: str | Path,
        logs: str | Path,
        options: Sequence[str] = (),
        connecting: Mapping[str, Any] | None = None,
    ) -> None:
        self.servers: list[Server] = []
        self.connecting = dict(connecting or {})
        try:
            for number in range(servers):
                seeds = [self.servers[0].grpc] if self.servers else []
                self.servers.append(Server(f"server-{number + 1}", store, logs, seeds, options))
            self._meet()
        except BaseException:
            self.stop()
            raise

    def _meet(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        for server in self.servers:
            with self.connect(server) as client:
                while len(client.members()) < len(self.servers):
                    if time.monotonic() > deadline:
                        seen = client.members()
                        raise TimeoutError(f"after {START_SECONDS} s server {server.name} sees only these:\n{seen}")
                    time.sleep(0.05)

    def connect(self, server: Server | None = None) -> volary.Client:
        """A client of this server, or of the first."""
        return volary.connect((server or self.servers[0]).url, **self.connecting)

    @property
    def url(self) -> str:
        """Any server answers for all; this is the first."""
        return self.servers[0].url

    def stop(self) -> None:
        """Drain all of them at once."""
        for server in self.servers:
            if server.process.poll() is None:
                server.terminate()  # all at once; then each is waited for
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
