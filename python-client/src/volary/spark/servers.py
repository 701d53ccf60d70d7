"""Where a cluster is reached, as it travels from the driver to the executors."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, Unpack

from .._tls import Tls, TlsOptions
from ..client import Client
from ..errors import UnavailableError

__all__ = ["DEFAULT", "Servers"]

DEFAULT = "grpc://127.0.0.1:50051"

#: What a Spark data source calls the certificates: PEM files, or what they hold.
TLS_OPTIONS = {
    "tlsRootCerts": "tls_root_certs",
    "certChain": "cert_chain",
    "privateKey": "private_key",
    "disableServerVerification": "disable_server_verification",
    "overrideHostname": "override_hostname",
}


@dataclass(frozen=True)
class Servers:
    """The addresses of one cluster. Any server answers for all; naming several spreads the streams and outlives one of them."""

    urls: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    tls: Tls = field(default_factory=Tls)

    @classmethod
    def of(
        cls,
        server: str | Iterable[str],
        headers: Mapping[str, str] | None = None,
        **tls: Unpack[TlsOptions],
    ) -> Self:
        """From what a user gives: one address, several with commas between, or a list.

        >>> Servers.of("grpc://a:50051, grpc://b:50051").urls
        ('grpc://a:50051', 'grpc://b:50051')
        """
        given = server.split(",") if isinstance(server, str) else list(server)
        urls = tuple(url.strip() for url in given if url.strip())
        if not urls:
            raise ValueError(f"server is {server!r}; name at least one, as in {DEFAULT!r}")
        # Read here, and with what the environment names, so that executors need neither the files nor the variables.
        return cls(urls, tuple(sorted((headers or {}).items())), Tls.of(**tls).completed(urls[0]))

    def client(self, turn: int = 0) -> Client:
        """A client of the server whose turn it is, or of the next that answers; a task's turn is its partition."""
        begin = turn % len(self.urls)
        unheard: UnavailableError | None = None
        for url in self.urls[begin:] + self.urls[:begin]:
            client = Client(url, headers=dict(self.headers), **self.tls.options())
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
        for option, name in TLS_OPTIONS.items():
            value = getattr(self.tls, name)
            if isinstance(value, bytes):
                options[option] = value.decode()
            elif value:
                options[option] = str(value)
        return options

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Self:
        """From options of a Spark data source.

        >>> servers = Servers.of("grpc://a:1", headers={"x": "y"}, tls_root_certs=b"-----BEGIN")
        >>> Servers.from_options(servers.to_options()) == servers
        True
        """
        headers = json.loads(options.get("headers") or "{}")
        given: dict[str, Any] = {name: options[option] for option, name in TLS_OPTIONS.items() if options.get(option)}
        if "disable_server_verification" in given:
            given["disable_server_verification"] = given["disable_server_verification"].lower() == "true"
        return cls.of(options.get("server") or DEFAULT, headers, **given)


def task_turn() -> int:
    """The turn of the Spark task that asks: its partition, and the next at each further attempt; any outside a task."""
    from pyspark import TaskContext

    task = TaskContext.get()
    return random.randrange(1 << 16) if task is None else task.partitionId() + task.attemptNumber()
