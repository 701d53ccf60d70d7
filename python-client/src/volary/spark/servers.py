"""Where a cluster is reached, as it travels from the driver to the executors."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from ..client import Client
from ..errors import UnavailableError

__all__ = ["DEFAULT", "Servers"]

DEFAULT = "grpc://127.0.0.1:50051"


@dataclass(frozen=True)
class Servers:
    """The addresses of one cluster. Any server answers for all; naming several spreads the streams and outlives one of them."""

    urls: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    tls_root_certs: bytes | None = None

    @classmethod
    def of(
        cls,
        server: str | Iterable[str],
        headers: Mapping[str, str] | None = None,
        tls_root_certs: bytes | None = None,
    ) -> Self:
        """From what a user gives: one address, several with commas between, or a list.

        >>> Servers.of("grpc://a:50051, grpc://b:50051").urls
        ('grpc://a:50051', 'grpc://b:50051')
        """
        given = server.split(",") if isinstance(server, str) else list(server)
        urls = tuple(url.strip() for url in given if url.strip())
        if not urls:
            raise ValueError(f"server is {server!r}; name at least one, as in {DEFAULT!r}")
        return cls(urls, tuple(sorted((headers or {}).items())), tls_root_certs)

    def client(self, turn: int = 0) -> Client:
        """A client of the server whose turn it is, or of the next that answers; a task's turn is its partition."""
        begin = turn % len(self.urls)
        unheard: UnavailableError | None = None
        for url in self.urls[begin:] + self.urls[:begin]:
            client = Client(url, headers=dict(self.headers), tls_root_certs=self.tls_root_certs)
            if len(self.urls) == 1:
                return client  # the first call tells what is wrong with it
            try:
                client._transport.action("ListMembers")
            except UnavailableError as error:
                client.close()
                unheard = error
            else:
                return client
        assert unheard is not None
        raise unheard

    def to_options(self) -> dict[str, str]:
        """As options of a Spark data source, which are texts."""
        options = {"server": ",".join(self.urls)}
        if self.headers:
            options["headers"] = json.dumps(dict(self.headers))
        if self.tls_root_certs is not None:
            options["tlsRootCerts"] = self.tls_root_certs.decode()
        return options

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Self:
        """From options of a Spark data source.

        >>> servers = Servers.of("grpc://a:1", headers={"x": "y"}, tls_root_certs=b"PEM")
        >>> Servers.from_options(servers.to_options()) == servers
        True
        """
        certs = options.get("tlsRootCerts")
        headers = json.loads(options.get("headers") or "{}")
        return cls.of(options.get("server") or DEFAULT, headers, None if certs is None else certs.encode())


def task_turn() -> int:
    """The turn of the Spark task that asks: its partition, and the next at each further attempt; any outside a task."""
    from pyspark import TaskContext

    task = TaskContext.get()
    return random.randrange(1 << 16) if task is None else task.partitionId() + task.attemptNumber()
