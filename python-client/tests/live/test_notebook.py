"""A notebook, run by a real kernel: what it shows, and what interrupting it does."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="volary[test] runs a notebook")
pytest.importorskip("ipykernel", reason="volary[test] runs a notebook")
import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

import volary
from cluster import Server

SOURCES = Path(volary.__file__).resolve().parents[1]
PATIENCE_SECONDS = 60

STORY = {
    "connect": """
        import numpy as np
        import pandas as pd
        import volary
        from volary import layers
        client = volary.connect(URL)
        client
    """,
    "upload": """
        random = np.random.default_rng(0)
        frame = pd.DataFrame(random.normal(size=(4000, 3)), columns=["a", "b", "c<d"])
        frame["kind"] = np.where(frame["a"] + frame["b"] > 0, "high", "low")
        client.put("moons", frame)
    """,
    "build": """
        model = volary.Sequential([layers.Dense(16, activation="relu"), layers.Dense(1, activation="sigmoid")], name="moons")
        model.compile(loss="binary_crossentropy", metrics=["accuracy"])
        model
    """,
    "fit": """
        history = model.fit(client.table("moons"), "kind", epochs=8, batch_size=100, validation_split=0.2, seed=1)
        history
    """,
    "plot": "history.plot()",
    "predict": """
        answers = client.model("moons").predict(frame)
        volary.plot.plot_confusion_matrix(frame["kind"], answers["prediction"])
    """,
    "model": "model.served",
    "query": "client.sql('SELECT kind, count(*) AS rows FROM moons GROUP BY kind ORDER BY kind')",
    "jobs": "client.jobs()",
    "job": "history.job",
    "nothing": "client.table('absent')",
    "endless": """
        model.fit(client.table("moons"), "kind", epochs=1_000_000, batch_size=100, seed=1, name="endless")
    """,
    "afterwards": "model.job.status()",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server("notebook", tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs"))
    yield server
    server.stop()


def interrupt_when_it_trains(url: str, manager: KernelManager) -> None:
    """Press the square button in the middle of the fit."""
    with volary.Client(url) as watcher:
        [job] = [each.id for each in watcher.jobs() if each.name == "endless"] or [None]
        while job is None:
            [job] = [each.id for each in watcher.jobs() if each.name == "endless"] or [None]
        for state in watcher.job(job).watch():
            if state.epoch > 0 or state.done:
                break
    manager.interrupt_kernel()


@pytest.fixture(scope="module")
def outputs(server):
    """The outputs of every cell by its name."""
    cells = [
        nbformat.v4.new_code_cell(
            re.sub(r"^ {8}", "", code.replace("URL", repr(server.url)), flags=re.MULTILINE).strip()
        )
        for code in STORY.values()
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    path = os.pathsep.join([str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])])
    manager = KernelManager(kernel_name="python3")
    kernel = NotebookClient(notebook, km=manager, timeout=PATIENCE_SECONDS, allow_errors=True)
    try:
        with kernel.setup_kernel(env={**os.environ, "PYTHONPATH": path}):
            for at, (name, cell) in enumerate(zip(STORY, cells, strict=True)):
                finger = threading.Thread(target=interrupt_when_it_trains, args=(server.url, manager))
                if name == "endless":
                    finger.start()
                kernel.execute_cell(cell, at)
                if name == "endless":
                    finger.join()
    finally:
        if kernel.kc is not None:
            kernel.kc.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    return {name: cell["outputs"] for name, cell in zip(STORY, cells, strict=True)}


def html_of(outputs: list[dict]) -> str:
    return "\n".join(each["data"].get("text/html", "") for each in outputs if "data" in each)


def test_no_cell_but_the_interrupted_one_fails_or_writes_to_standard_error(outputs):
    for name, of_cell in outputs.items():
        faults = [each for each in of_cell if each["output_type"] == "error"]
        assert [each["ename"] for each in faults] == (["KeyboardInterrupt"] if name == "endless" else []), (
            name,
            faults,
        )
        assert [each for each in of_cell if each.get("name") == "stderr"] == [], name


def test_what_is_on_the_cluster_shows_itself(outputs):
    assert "a cluster of 1 server" in html_of(outputs["connect"])
    assert "READY" in html_of(outputs["connect"])
    uploaded = html_of(outputs["upload"])
    assert "moons@0, 4,000 rows" in uploaded
    assert "c&lt;d" in uploaded
    assert uploaded.count("<tr>") == 6
    assert "dense (Dense)" in html_of(outputs["build"])
    described = html_of(outputs["model"])
    assert "Model moons@1" in described
    assert "high, low" in described
    assert "a, b, c&lt;d" in described
    assert "high" in html_of(outputs["query"])
    assert "SUCCEEDED" in html_of(outputs["jobs"])
    assert "SUCCEEDED 100%" in html_of(outputs["job"])
    assert "there is no dataset &quot;absent&quot;" in html_of(outputs["nothing"])


def test_a_fit_has_one_bar_which_stays_as_it_ended(outputs):
    bar, history = outputs["fit"]
    assert bar["output_type"] == "display_data"
    assert 'value="100.0"' in bar["data"]["text/html"]
    assert "succeeded" in bar["data"]["text/html"]
    assert re.search(r"epoch 8/8 .* val_loss \d\.\d{4}", bar["data"]["text/html"], re.DOTALL)
    assert "100%" in bar["data"]["text/plain"]
    assert "History of 8 epochs" in history["data"]["text/html"]


@pytest.mark.parametrize("cell", ["plot", "predict"])
def test_pictures_are_shown_without_pyplot(outputs, cell):
    [picture] = outputs[cell]
    assert len(picture["data"]["image/png"]) > 10_000


def test_interrupting_the_kernel_cancels_the_job_and_the_notebook_goes_on(outputs, server):
    bar = outputs["endless"][0]["data"]["text/html"]
    assert "cancelled" in bar
    assert "is being cancelled, a second interrupt does not wait for it" in bar
    assert "CANCELLED" in html_of(outputs["afterwards"])
    with volary.Client(server.url) as watcher:
        [endless] = [each for each in watcher.jobs() if each.name == "endless"]
        assert endless.state == "CANCELLED"
        assert [each.name for each in watcher.datasets()] == ["moons"]
        assert [each.name for each in watcher.models()] == ["moons"]
