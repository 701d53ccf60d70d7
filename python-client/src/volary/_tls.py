"""Certificates of a connection. The names are those of ``pyarrow.flight.FlightClient``."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, TypedDict

__all__ = ["Pem", "Tls", "TlsOptions"]

#: What is read where a connection with TLS is given no certificates: files, as the program ``volary`` takes them.
VARIABLES = {
    "tls_root_certs": "VOLARY_TLS_ROOT_CERTS",
    "cert_chain": "VOLARY_CERT_CHAIN",
    "private_key": "VOLARY_PRIVATE_KEY",
}

#: A file in PEM, or what it holds.
Pem = str | bytes | os.PathLike[str]


class TlsOptions(TypedDict, total=False):
    """The certificates of a connection, by name, for any function that takes them."""

    #: Issuers whose servers are believed, in place of the system's.
    tls_root_certs: Pem | None
    #: The certificate to show to a server that asks for one, then those of its issuers.
    cert_chain: Pem | None
    #: The key of `cert_chain`.
    private_key: Pem | None
    #: Believe any server: encrypted, and nobody knows for whom.
    disable_server_verification: bool
    #: The name that the server's certificate is for, where it is not the address's.
    override_hostname: str | None


@dataclass(frozen=True, repr=False)
class Tls:
    """Certificates of a connection, read. Equal ones are equal, and a pickle holds them, the key included."""

    tls_root_certs: bytes | None = None
    cert_chain: bytes | None = None
    private_key: bytes | None = None
    disable_server_verification: bool = False
    override_hostname: str | None = None

    @classmethod
    def of(
        cls,
        tls_root_certs: Pem | None = None,
        cert_chain: Pem | None = None,
        private_key: Pem | None = None,
        disable_server_verification: bool = False,
        override_hostname: str | None = None,
    ) -> Self:
        """From what a user gives: files or what they hold.

        >>> Tls.of(cert_chain=b"-----BEGIN CERTIFICATE-----")
        Traceback (most recent call last):
        ...
        ValueError: cert_chain is given and private_key is not; a certificate is shown with its key
        """
        for given, missing in [("cert_chain", "private_key"), ("private_key", "cert_chain")]:
            both = {"cert_chain": cert_chain, "private_key": private_key}
            if both[given] is not None and both[missing] is None:
                raise ValueError(f"{given} is given and {missing} is not; a certificate is shown with its key")
        return cls(
            _read("tls_root_certs", tls_root_certs),
            _read("cert_chain", cert_chain),
            _read("private_key", private_key),
            disable_server_verification,
            override_hostname,
        )

    def completed(self, url: str) -> Self:
        """With the files that the environment names, where nothing else is given and the address is one of TLS."""
        if not url.startswith(("grpc+tls:", "https:")):
            return self
        certificates = {} if self.disable_server_verification else {"tls_root_certs": self.tls_root_certs}
        if self.cert_chain is None:
            certificates |= {"cert_chain": None, "private_key": None}
        found = {
            name: _read(VARIABLES[name], file)
            for name, given in certificates.items()
            if given is None and (file := os.environ.get(VARIABLES[name]))
        }
        return type(self)(**{**self.options(), **found})

    def options(self) -> dict[str, Any]:
        """What is given, by name."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value not in (None, False)}

    def __repr__(self) -> str:
        return f"Tls({', '.join(self.options())})"


def _read(name: str, given: Pem | None) -> bytes | None:
    if given is None or isinstance(given, bytes):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"{name} is of type {type(given).__name__}; give the path of a PEM file, or its bytes")
    if isinstance(given, str) and "-----BEGIN" in given:
        return given.encode()
    path = Path(given)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{name} names {str(path)!r}, which cannot be read: {error.strerror}; give the path of a PEM file, or its bytes"
        ) from None
