"""Certificates made for a test, as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Identity:
    """A certificate with its issuers, and its key."""

    cert_chain: Path
    private_key: Path

    def issue_again(self, authority: Authority, *names: str) -> None:
        """Writes another certificate of the same names over this one, as a renewal does."""
        authority.write(self, *names)


class Authority:
    """An issuer. Its certificate is `root`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA()
        self.root = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.root))

    def issue(self, name: str, *names: str) -> Identity:
        """A certificate for these hosts, good for servers and clients."""
        identity = Identity(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        self.write(identity, *names)
        return identity

    def write(self, identity: Identity, *names: str) -> None:
        """Issues one and writes its two files."""
        made = self._ca.issue_cert(*(names or ("127.0.0.1", "localhost")))
        identity.private_key.write_bytes(made.private_key_pem.bytes())
        identity.cert_chain.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))


def served(identity: Identity, client_ca: Path | None = None) -> list[str]:
    """The options of a server with this certificate, which asks clients for theirs when it is told their issuer."""
    options = ["--tls-certificate", str(identity.cert_chain), "--tls-key", str(identity.private_key)]
    return options + (["--tls-client-ca", str(client_ca)] if client_ca else [])
