"""Which cluster an estimator means. One connection to each address in a process, however many estimators there are.

scikit-learn clones and pickles estimators freely, and sends them to other processes; a connection survives neither. So an
estimator holds an address, or nothing at all, and asks here when it needs a connection.
"""

from __future__ import annotations

import os
import threading

from ..client import Client, current_client

__all__ = ["SERVER_VARIABLE", "client_of", "hand_on", "take_over"]

#: The environment variable that names the cluster where nothing else does.
SERVER_VARIABLE = "VOLARY_SERVER"
DEFAULT_SERVER = "grpc://127.0.0.1:50051"

_lock = threading.Lock()
# By process too: what a fork inherits of a connection does not work.
_connections: dict[tuple[int, str], Client] = {}
# The address that came to this process with an estimator from another one.
_taken_over: str | None = None


def client_of(server: str | Client | None, remembered: str | None = None) -> Client:
    """The connection for an estimator's `server`.

    Nothing given means, in this order: the address `remembered`, where the estimator's model was made; the newest connection
    of :func:`volary.connect`; the address that an estimator brought here from another process; the environment variable;
    a server on this machine.
    """
    if isinstance(server, Client):
        return server
    if server is not None and not isinstance(server, str):
        raise TypeError(f"server is of type {type(server).__name__}; give an address, a volary.Client, or None")
    newest = current_client()
    address = server or remembered
    if address is None and newest is not None:
        return newest
    address = address or _taken_over or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER
    if newest is not None and newest.url == address:
        return newest
    key = (os.getpid(), address)
    with _lock:
        if key not in _connections:
            _connections[key] = Client(address)
        return _connections[key]


def hand_on() -> str | None:
    """The address that an estimator without one would use here, to go with it into another process."""
    newest = current_client()
    return newest.url if newest is not None else _taken_over


def take_over(address: str | None) -> None:
    """Use an address that was handed on, in a process that has no connection of its own."""
    global _taken_over
    if address is not None:
        _taken_over = address
