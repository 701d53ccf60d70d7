"""A notebook, run by a real kernel: what it shows, and what interrupting it does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent

import pytest

pytest.importorskip("nbclient", reason="volary[test] runs a notebook")
pytest.importorskip("ipykernel", reason="volary[test] runs a notebook")
import nbformat
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


def wait_until_it_trains(url: str, name: str) -> None:
    """Until the fit of a model is in its midst."""
    with volary.Client(url) as watcher:
        found: list[str] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not found and time.monotonic() < deadline:
            found = [each.id for each in watcher.jobs() if each.name == name]
        for state in watcher.job(found[0]).watch():
            if state.epoch > 0 or state.done:
                return


@contextlib.asynccontextmanager
async def notebook(cells: list[str]) -> AsyncIterator[NotebookClient]:
    """A notebook of these cells and its kernel, which is new."""
    path = os.pathsep.join([str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])])
    sheet = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(dedent(code).strip()) for code in cells])
    client = NotebookClient(sheet, kernel_name="python3", timeout=PATIENCE_SECONDS, allow_errors=True)
    async with client.async_setup_kernel(env={**os.environ, "PYTHONPATH": path}):
        yield client


async def story(url: str) -> dict[str, list[dict]]:
    async with notebook([code.replace("URL", repr(url)) for code in STORY.values()]) as client:
        for at, (name, cell) in enumerate(zip(STORY, client.nb["cells"], strict=True)):
            running = asyncio.create_task(client.async_execute_cell(cell, at))
            if name == "endless":
                while "loss" not in html_of(cell["outputs"]):  # until the bar tells of the first epoch
                    assert not running.done(), cell["outputs"]
                    await asyncio.sleep(0.02)
                await client.km.interrupt_kernel()
            await running
        return {name: cell["outputs"] for name, cell in zip(STORY, client.nb["cells"], strict=True)}


@pytest.fixture(scope="module")
def outputs(server):
    """The outputs of every cell by its name."""
    return asyncio.run(story(server.url))


def html_of(outputs: list[dict]) -> str:
    """All the HTML of a cell's outputs."""
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


def test_shutting_a_kernel_down_in_the_middle_of_a_fit_cancels_its_job(server):
    fit = """
        import volary
        model = volary.Sequential([volary.layers.Dense(1)])
        model.compile(loss="mse")
        rows = {"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 3.0]}
        model.fit(rows, "y", epochs=1_000_000, name="shut", client=volary.connect(URL))
    """

    async def shut_down() -> None:
        async with notebook([fit.replace("URL", repr(server.url))]) as client:
            client.kc.execute(client.nb["cells"][0]["source"])
            await asyncio.to_thread(wait_until_it_trains, server.url, "shut")
            await client.km.shutdown_kernel()

    asyncio.run(shut_down())
    with volary.Client(server.url) as watcher:
        [shut] = [each for each in watcher.jobs() if each.name == "shut"]
        assert shut.state == "CANCELLED"
        assert not [each.name for each in watcher.datasets() if "shut" in each.name]
