"""What a server that joins later must know: tickets that were cancelled and sessions that were closed before it came."""

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import volary
from cluster import START_SECONDS, Cluster, Server
from flight_actions import CANCELLED, CLOSED, Cookies, cancel, close_session, get_session_options, set_session_options


def refused(ask: Callable[[], object]) -> flight.FlightError:
    """The refusal that a newcomer answers with as soon as it has heard of the others."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            ask()
        except (flight.FlightError, pa.ArrowException) as error:
            return error
    raise TimeoutError("the newcomer goes on taking what was withdrawn")


def test_a_cancelled_ticket_and_a_closed_session_stay_so_on_a_server_that_joins_later(tmp_path):
    with Cluster(2, tmp_path / "store", tmp_path / "logs") as cluster:
        with volary.connect(cluster.url) as client:
            client.put("numbers", pa.table({"id": [1, 2, 3]}))
        jar = Cookies()
        with (
            flight.FlightClient(cluster.url, middleware=[jar]) as first,
            flight.connect(cluster.servers[1].url) as other,
        ):
            cancelled = first.get_flight_info(flight.FlightDescriptor.for_path("numbers"))
            good = first.get_flight_info(flight.FlightDescriptor.for_path("numbers"))
            assert cancel(other, cancelled) == CANCELLED
            assert set_session_options(first, {"compression": "zstd"}) == {}
            [(name, value)] = jar._jar.items()
            assert close_session(first) == CLOSED
        newcomer = Server("server-3", tmp_path / "store", tmp_path / "logs", [cluster.servers[0].grpc])
        cluster.servers.append(newcomer)
        cookie = flight.FlightCallOptions(headers=[(b"cookie", f"{name}={value}".encode())])
        with flight.connect(newcomer.url) as connection:
            error = refused(lambda: connection.do_get(cancelled.endpoints[0].ticket).read_all())
            assert "the ticket was cancelled" in str(error)
            error = refused(lambda: get_session_options(connection, cookie))
            assert "there is no session" in str(error)
            assert connection.do_get(good.endpoints[0].ticket).read_all().num_rows == 3
        # And the other way round: what the newcomer cancels, those before it know.
        with flight.connect(newcomer.url) as connection, flight.connect(cluster.servers[1].url) as other:
            assert cancel(connection, good) == CANCELLED
            with pytest.raises(flight.FlightCancelledError, match="the ticket was cancelled"):
                other.do_get(good.endpoints[0].ticket).read_all()
