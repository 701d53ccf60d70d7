"""Servers with certificates: every client of Python gets in with the right ones, and hears why with the wrong ones."""

from __future__ import annotations

import contextlib
import pickle
import re
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as adbc

import volary
from certificates import Authority, Identity, served
from cluster import Cluster, Server, binary
from volary import layers
from volary._commands import command
from volary.errors import UnavailableError, VolaryError
from volary.sklearn import VolaryClassifier
from volary.spark import read_dataframe, write_dataframe

#: What a user waits for an error at most; gRPC tries for as long as 20 s where nobody answers at all.
SOON_SECONDS = 15


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Whose certificates are believed here."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Whose are not."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def mine(authority):
    """What a client of the cluster is given."""
    identity = authority.issue("client", "a.client")
    return {
        "tls_root_certs": authority.root,
        "cert_chain": identity.cert_chain,
        "private_key": identity.private_key,
    }


@pytest.fixture(scope="module")
def guarded(authority, mine, tmp_path_factory):
    """Three servers that ask everybody for a certificate, each other too, and send readers to each other."""
    options = ["--endpoints", "direct", *served(authority.issue("server"), client_ca=authority.root)]
    store, logs = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs")
    with Cluster(3, store, logs, options, mine) as cluster:
        with cluster.connect() as client:
            for part in range(3):
                numbers = np.arange(part * 1000, part * 1000 + 1000)
                rows = {"id": numbers, "x": np.sin(numbers), "label": (np.sin(numbers) > 0).astype(np.int64)}
                client.put("numbers", pa.table(rows), mode="append")
        yield cluster


@pytest.fixture(scope="module")
def one(authority, tmp_path_factory):
    """One server with a certificate that asks nobody for theirs."""
    folder = tmp_path_factory.mktemp("one")
    server = Server("one", folder / "store", folder, options=served(authority.issue("one")))
    yield server
    server.stop()


def contents(certificates):
    """The files' bytes, as pyarrow takes them."""
    return {name: path.read_bytes() for name, path in certificates.items()}


@contextlib.contextmanager
def refused_soon(*words):
    """Expects an error of ours that has the words, within the time that a user waits."""
    began = time.monotonic()
    with pytest.raises(VolaryError) as refused:
        yield
    assert time.monotonic() - began < SOON_SECONDS
    for word in words:
        assert word in str(refused.value)


# -- a cluster ------------------------------------------------------------------------------------------------------


def test_a_cluster_trains_and_predicts_with_certificates_on_every_connection(guarded):
    with guarded.connect(guarded.servers[1]) as client:
        assert [member.state for member in client.members()] == ["READY"] * 3
        model = volary.Sequential([layers.Dense(8, activation="relu"), layers.Dense(1, activation="sigmoid")])
        model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
        rows = client.sql("SELECT x, label FROM numbers")
        history = model.fit(rows, "label", epochs=8, batch_size=64, seed=7, name="signs", verbose=0)
        assert history.history["accuracy"][-1] > 0.9
        answers = client.model("signs").predict(pa.table({"x": [-0.9, 0.9]}))
        assert len(answers) == 2
        # A job is asked about at any server; the one that drives it answers.
        [job] = [job for job in client.jobs() if job.kind.lower() == "train"]
        for server in guarded.servers:
            with guarded.connect(server) as other:
                assert other.job(job.id).status().state == "SUCCEEDED"


def test_endpoints_name_servers_with_tls_and_pyarrow_alone_reads_from_them(guarded, mine):
    options = contents(mine)
    with flight.FlightClient(guarded.url, **options) as client:
        asked = command("Read", dataset="numbers", endpoints=3, columns=["id"])
        info = client.get_flight_info(flight.FlightDescriptor.for_command(volary._commands.encode(asked)))
    locations = [endpoint.locations[0].uri.decode() for endpoint in info.endpoints]
    assert sorted(locations) == sorted(f"grpc+tls://{server.grpc}" for server in guarded.servers)
    ids = []
    for endpoint, location in zip(info.endpoints, locations, strict=True):
        with flight.FlightClient(location, **options) as client:
            ids += client.do_get(endpoint.ticket).read_all()["id"].to_pylist()
    assert ids == list(range(3000))
    with guarded.connect() as client:  # and ours follows them by itself
        assert client._transport.read(asked).table()["id"].to_pylist() == ids


def test_a_client_without_a_certificate_of_the_right_issuer_is_not_let_in(guarded, authority, stranger):
    with refused_soon(), volary.Client(guarded.url, tls_root_certs=authority.root) as client:
        client.members()
    wrong = stranger.issue("client", "a.client")
    with (
        refused_soon(),
        volary.Client(
            guarded.url,
            tls_root_certs=authority.root,
            cert_chain=wrong.cert_chain,
            private_key=wrong.private_key,
        ) as client,
    ):
        client.members()


# -- one server -----------------------------------------------------------------------------------------------------


def test_certificates_are_given_as_files_as_bytes_and_by_the_environment(one, authority, monkeypatch):
    for given in (authority.root, str(authority.root), authority.root.read_bytes(), authority.root.read_text()):
        with volary.Client(one.url, tls_root_certs=given) as client:
            assert len(client.members()) == 1
            copy = pickle.loads(pickle.dumps(client))
            with copy:
                assert len(copy.members()) == 1
    monkeypatch.setenv("VOLARY_TLS_ROOT_CERTS", str(authority.root))
    with volary.Client(one.url) as client:
        assert len(client.members()) == 1


def test_a_server_of_another_issuer_or_name_is_refused_unless_the_client_says_otherwise(one, authority, stranger):
    with refused_soon("certificate"), volary.Client(one.url, tls_root_certs=stranger.root) as client:
        client.members()
    with volary.Client(one.url, disable_server_verification=True) as client:
        assert len(client.members()) == 1
    renamed = {"tls_root_certs": authority.root, "override_hostname": "elsewhere.test"}
    with refused_soon(), volary.Client(one.url, **renamed) as client:
        client.members()
    with volary.Client(one.url, **{**renamed, "override_hostname": "localhost"}) as client:
        assert len(client.members()) == 1


def test_a_client_without_tls_is_refused_by_a_port_that_has_it_and_one_with_it_by_a_port_that_has_not(
    one, authority, cluster
):
    with refused_soon(), volary.Client(f"grpc://{one.grpc}") as client:
        client.members()
    plain = f"grpc+tls://{cluster.servers[0].grpc}"
    with refused_soon(), volary.Client(plain, tls_root_certs=authority.root) as client:
        client.members()


def test_files_that_cannot_be_used_are_named(authority):
    with pytest.raises(ValueError, match=r"tls_root_certs names '.*nowhere.pem', which cannot be read"):
        volary.Client("grpc+tls://127.0.0.1:1", tls_root_certs=authority.folder / "nowhere.pem")
    with pytest.raises(ValueError, match="private_key is not"):
        volary.Client("grpc+tls://127.0.0.1:1", cert_chain=authority.root)
    with pytest.raises(TypeError, match="tls_root_cert'"):
        volary.Client("grpc+tls://127.0.0.1:1", tls_root_cert=authority.root)


def test_adbc_connects_with_certificates(guarded, one, mine, authority):
    certificates = contents(mine)
    options = {
        DatabaseOptions.TLS_ROOT_CERTS.value: certificates["tls_root_certs"].decode(),
        DatabaseOptions.MTLS_CERT_CHAIN.value: certificates["cert_chain"].decode(),
        DatabaseOptions.MTLS_PRIVATE_KEY.value: certificates["private_key"].decode(),
    }
    with (
        adbc.connect(guarded.url, options, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        assert cursor.execute("SELECT count(*) FROM numbers").fetchall() == [(3000,)]
    unverified = {DatabaseOptions.TLS_SKIP_VERIFY.value: "true"}
    with adbc.connect(one.url, unverified, autocommit=True) as connection, connection.cursor() as cursor:
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]


def test_the_program_asks_a_server_with_certificates(guarded, one, mine, stranger):
    def asked(url, *options):
        command_line = [str(binary()), "members", "--server", url, "--json", *options]
        return subprocess.run(command_line, capture_output=True, text=True, timeout=60)

    root = ["--tls-root-certs", str(mine["tls_root_certs"])]
    own = ["--cert-chain", str(mine["cert_chain"]), "--private-key", str(mine["private_key"])]
    assert len(asked(guarded.url, *root, *own).stdout.splitlines()) == 3
    assert len(asked(one.url, *root).stdout.splitlines()) == 1
    assert asked(guarded.url, *root).returncode == 1
    refused = asked(one.url, "--tls-root-certs", str(stranger.root))
    assert "certificate is not believed: its issuer is not among those that are trusted" in refused.stderr
    refused = asked(f"grpc://{one.grpc}")
    assert refused.returncode == 1, refused


def test_scikit_learn_takes_its_certificates_from_the_environment(guarded, mine, monkeypatch):
    for name, path in mine.items():
        monkeypatch.setenv(f"VOLARY_{name.upper()}", str(path))
    x = np.linspace(-1, 1, 200).reshape(-1, 1)
    y = (x[:, 0] > 0).astype(int)
    fitted = VolaryClassifier(server=guarded.url, epochs=3, random_state=1).fit(x, y)
    assert fitted.predict(x).shape == (200,)


def test_spark_workers_get_the_drivers_certificates(spark, guarded, mine):
    df = spark.range(1000).repartition(4)
    table = write_dataframe(df, "from_spark", server=guarded.url, **mine)
    assert table.version == 0
    back = read_dataframe(spark, "from_spark", server=guarded.url, endpoints=4, **mine)
    assert sorted(row.id for row in back.collect()) == list(range(1000))


# -- renewal --------------------------------------------------------------------------------------------------------


def shown(server: Server, authority: Authority) -> bytes:
    """The certificate that a server shows now."""
    context = ssl.create_default_context(cafile=str(authority.root))
    context.set_alpn_protocols(["h2"])
    host, port = server.grpc.split(":")
    with socket.create_connection((host, int(port))) as tcp, context.wrap_socket(tcp, server_hostname=host) as tls:
        return tls.getpeercert(binary_form=True)


def test_a_renewed_certificate_is_shown_without_a_restart_and_open_connections_stay(authority, tmp_path):
    identity = authority.issue("renewed")
    server = Server("renewed", tmp_path / "store", tmp_path, options=served(identity))
    try:
        with volary.Client(server.url, tls_root_certs=authority.root) as client:
            assert len(client.members()) == 1
            first = shown(server, authority)
            assert shown(server, authority) == first
            identity.issue_again(authority)
            second = shown(server, authority)
            assert second != first
            identity.private_key.write_text("no key")
            assert shown(server, authority) == second
            assert "renewed certificate not taken up" in server.log.read_text()
            assert len(client.members()) == 1
    finally:
        server.stop()


def test_the_page_about_tls_makes_certificates_that_work(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    page = Path(__file__).resolve().parents[3] / "docs/tls.md"
    commands = re.search(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)[1]
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    identity = Identity(tmp_path / "server.pem", tmp_path / "server.key")
    server = Server("page", tmp_path / "store", tmp_path, options=served(identity, tmp_path / "ca.pem"))
    try:
        assert "WARN" not in server.log.read_text()
        own = {"cert_chain": tmp_path / "client.pem", "private_key": tmp_path / "client.key"}
        with volary.Client(server.url, tls_root_certs=tmp_path / "ca.pem", **own) as client:
            assert len(client.members()) == 1
    finally:
        server.stop()


# -- starting -------------------------------------------------------------------------------------------------------


def test_a_server_whose_files_do_not_fit_together_does_not_start_and_says_why(authority, stranger, tmp_path):
    mixed = authority.issue("mixed")
    mixed.private_key.write_bytes(stranger.issue("mixed").private_key.read_bytes())
    with pytest.raises(RuntimeError, match=r"does not belong to the first certificate"):
        Server("mixed", tmp_path / "store", tmp_path, options=served(mixed))


def test_a_server_says_in_its_log_for_whom_its_certificate_is_no_good(authority, tmp_path):
    elsewhere = authority.issue("elsewhere", "elsewhere.test")
    server = Server("elsewhere", tmp_path / "store", tmp_path, options=served(elsewhere))
    try:
        assert "will not connect to" in server.log.read_text()
        with pytest.raises(UnavailableError), volary.Client(server.url, tls_root_certs=authority.root) as client:
            client.members()
    finally:
        server.stop()
