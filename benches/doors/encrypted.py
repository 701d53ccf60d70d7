"""What TLS costs: the same rows in and out with and without it, by ours and by pyarrow. Knows no page."""

import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .streams import connections, read, timed


@dataclass(frozen=True)
class Certificate:
    """A certificate for 127.0.0.1 that signed itself, and its key, as PEM files."""

    chain: Path
    key: Path

    @classmethod
    def make(cls, directory):
        """By `openssl`; none where that program is missing."""
        if shutil.which("openssl") is None:
            print("  TLS passed over: there is no openssl to make a certificate with")
            return None
        made = cls(directory / "certificate.pem", directory / "key.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", made.key, "-out", made.chain]
        subprocess.run(command, check=True, capture_output=True)
        return made

    @property
    def trust(self):
        """What a client is told in order to believe it."""
        return {"tls_root_certs": self.chain.read_bytes()}

    @property
    def served(self):
        """The options of a server of ours."""
        return ["--tls-certificate", str(self.chain), "--tls-key", str(self.key)]


def sides(running, rivals, streams):
    """The clients of each server, which end with `running`."""
    return {name: running.enter_context(connections(rival.location, streams, **rival.trust)) for name, rival in rivals.items()}


def gets(kind, streams, rivals, take_turns):
    """DoGet of the same rows from every server; each is given them first."""
    with ExitStack() as running:
        measured = {}
        for rival in rivals.values():
            count = streams if rival.name == "pyarrow.flight" else 1
            with connections(rival.location, count, **rival.trust) as clients:
                rival.put(clients, kind.shares(count))
        for name, clients in sides(running, rivals, streams).items():
            rival = rivals[name]

            def get(rival=rival, clients=clients, descriptors=rival.read_descriptors(streams)):
                def whole():
                    received = read(clients, descriptors)
                    assert received == kind.rows, f"{rival.name} sent {received:,} rows of {kind.rows:,}"

                return timed(rival.process, kind.bytes, whole)

            get()
            get()
            measured[name] = get
        return take_turns(measured)


def puts(kind, streams, rivals, take_turns):
    """DoPut of the same rows to every server."""
    tables = kind.shares(streams)
    with ExitStack() as running:
        measured = {}
        for name, clients in sides(running, rivals, streams).items():
            rival = rivals[name]

            def put(rival=rival, clients=clients):
                rival.clear(clients)
                return timed(rival.process, kind.bytes, lambda: rival.put(clients, tables))

            put()
            measured[name] = put
        return take_turns(measured)
