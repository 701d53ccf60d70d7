"""What is shown to people: progress, handles in a notebook, pictures; beside a recording server."""

from __future__ import annotations

import pyarrow as pa
import pytest

import volary
from recording import census_model, job


def test_progress_is_lines_where_nobody_watches(client, trained, capsys):
    census_model().fit(client.table("t"), "y")
    shown = capsys.readouterr().err
    assert "note: lanes are few\n" in shown
    assert shown.count("note") == 1
    assert "epoch 1/2  loss 0.5000  val_auc 0.8100  51,234 rows/s" in shown
    assert "epoch 2/2  loss 0.4000" in shown


def test_progress_is_a_bar_in_a_terminal(client, trained, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    census_model().fit(client.table("t"), "y")
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown
    assert "100%" in shown


def test_a_long_history_is_shown_by_its_beginning_and_its_end(client, trained):
    trained.paths[("jobs", "0190-job", "history")] = pa.table(
        {"epoch": list(range(1, 101)), "val_loss": [None] * 99 + [0.25], "loss": [1 / each for each in range(1, 101)]}
    )
    history = census_model().fit(client.table("t"), "y", verbose=0)
    shown = repr(history).splitlines()
    assert shown[0] == "History of 100 epochs, job 0190-job"
    assert shown[5:8] == ["    5  loss 0.2000", "  ...", "   86  loss 0.0116"]
    assert shown[-1] == "  100  loss 0.0100  val_loss 0.2500"
    html = history._repr_html_()
    assert html.index(">loss<") < html.index(">val_loss<")
    assert html.count("<tr>") == 1 + 5 + 1 + 15


def test_handles_show_what_the_server_says_of_them_and_what_it_says_against_them(client, trained):
    trained.answers["JobStatus"] = [
        job(
            "FAILED",
            epoch=1,
            epochs=2,
            error={"code": "INTERNAL", "message": "a <defect>"},
            metrics={"loss": 0.5, "lr": 1},
        )
    ]
    shown = client.job("0190-job")._repr_html_()
    assert "INTERNAL: a &lt;defect&gt;" in shown
    assert ">loss=0.5<" in shown
    assert repr(client.job("0190-job")) == "JobHandle('0190-job')"

    def unknown(body):
        raise pa.ArrowKeyError('there is no job "gone"')

    trained.answers["JobStatus"] = unknown
    assert "there is no job &quot;gone&quot;" in client.job("gone")._repr_html_()
    assert "JobHandle(&#x27;gone&#x27;)" in client.job("gone")._repr_html_()


def test_curves_are_drawn(client, trained, tmp_path):
    pytest.importorskip("matplotlib")
    history = census_model().fit(client.table("t"), "y", verbose=0)
    history.plot(tmp_path / "training.png")
    assert (tmp_path / "training.png").stat().st_size > 10_000
    assert [axes.get_title(loc="left") for axes in history.plot().axes] == ["Loss", "Metrics"]


def test_answers_are_drawn_beside_labels(tmp_path):
    pytest.importorskip("matplotlib")
    plot = volary.plot
    matrix = plot.plot_confusion_matrix(["a", "b", "b"], pa.array(["a", "b", "a"]), path=tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").stat().st_size > 5_000
    assert matrix.axes[0].get_title(loc="left") == "66.7% of 3 rows right"
    assert [text.get_text() for text in matrix.axes[0].texts] == ["1\n100%", "0\n0%", "1\n50%", "1\n50%"]
    assert matrix._repr_png_().startswith(b"\x89PNG")
    curve = plot.plot_roc([False, True, False, True], [0.1, 0.9, 0.4, 0.4])
    assert curve.axes[0].get_title(loc="left") == "True: area under the curve 0.875"
    points = plot.plot_predictions([1.0, 2.0], [1.5, 2.5])
    assert points.axes[0].get_title(loc="left") == "2 rows, off by 0.5 on average"
    assert plot.plot_history({"epoch": [1, 2], "loss": [2.0, 1.0]}).axes[0].get_title(loc="left") == "Loss"
    with pytest.raises(ValueError, match=r"^actual has 2 rows and predicted 1; give those of the same rows$"):
        plot.plot_predictions([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"^there are rows of the class 'b', which is not among the classes \['a'\]$"):
        plot.plot_confusion_matrix(["a", "b"], ["a", "a"], classes=["a"])
    with pytest.raises(ValueError, match=r"^actual has 1 classes; a curve is of two$"):
        plot.plot_roc([1, 1], [0.1, 0.2])
