"""What people see: the table while it runs, the frame and the picture afterwards."""

from __future__ import annotations

import io
import math
import time

import hyperopt.plotting
import matplotlib
from hyperopt import hp
from matplotlib.image import imread

from elephas_fast.spark.search import search
from elephas_fast.tuning import table as tables
from elephas_fast.tuning.reporting import report
from tests.search.conftest import SPACE, bowl


def uneven(values):
    if values["x"] > 3:
        raise KeyError("x")
    for epoch in range(3):
        report(epoch + 1, bowl(values))
        time.sleep(0.02)
    return bowl(values)


def test_lines_of_a_search(here, capsys):
    here(uneven, max_evals=14, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["trial", "loss", "time", "state", "worker", "parameters"]
    assert [line.split()[0] for line in lines[1:15]] == [str(n) for n in range(14)]
    assert any("failed" in line and "KeyError: 'x'" in line for line in lines)
    assert all("kind=" in line and "x=" in line for line in lines[1:15])
    assert lines[15].startswith("14/14 trials, ")
    assert "best loss" in lines[15]
    assert len(lines) == 16


def test_an_earlier_searchs_trials_are_not_shown_again(here, capsys):
    found = here(max_evals=4)
    here(max_evals=6, trials=found.trials, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "4 trials of an earlier search"
    assert [line.split()[0] for line in lines[2:4]] == ["4", "5"]
    assert here(max_evals=6, verbose=0).best_loss is not None
    assert capsys.readouterr().out == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_what_is_under_way(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(tables, "_EVERY", 0.02)
    monkeypatch.setattr("elephas_fast.spark.search.Table", lambda verbose, notebook: tables.Table(1, False, screen))

    def slow(values):
        report(1, bowl(values))
        time.sleep(0.3)
        return bowl(values)

    search(slow, SPACE, max_evals=4, parallelism=2, trials_on="driver", seed=0)
    shown = screen.getvalue()
    assert "running" in shown
    assert "@1" in shown, "the loss and epoch reported last"
    assert "s left" in shown
    assert "\x1b[" in shown
    final = shown.rpartition("\x1b[J")[2]
    assert final.splitlines()[-1].startswith("4/4 trials; best loss")
    screen = Terminal()
    monkeypatch.setattr("elephas_fast.spark.search.Table", lambda verbose, notebook: tables.Table(2, False, screen))
    search(bowl, SPACE, max_evals=4, trials_on="driver", seed=0)
    assert "\x1b[" not in screen.getvalue()
    assert len(screen.getvalue().splitlines()) == 4 + 2


def test_frame_and_picture(here, tmp_path):
    result = here(uneven, max_evals=20, stop="median")
    frame = result.to_pandas()
    assert list(frame.columns) == [
        "trial", "state", "loss", "seconds", "worker", "epochs", "failure", "kind", "x",
    ]  # fmt: skip
    assert len(frame) == 20
    assert {"done", "stopped", "failed"} == set(frame["state"])
    assert set(frame["kind"]) <= {"plain", "shifted"}
    assert frame["seconds"].between(0, 10).all()
    figure = result.plot(tmp_path / "search.png")
    assert len([axis for axis in figure.axes if axis.get_visible()]) == 3
    points = figure.axes[2].collections[0].get_offsets()
    assert len(points) == (frame["state"] == "done").sum()
    picture = imread(tmp_path / "search.png")
    assert min(picture.shape[:2]) > 200
    assert repr(result).startswith("SearchResult(20 trials, best loss ")


def test_hyper_parameters_that_are_called_as_columns_are(here):
    names = ["failure", "loss", "param_loss", "state", "trial"]
    result = here(lambda values: values["loss"], {name: hp.uniform(name, 1, 2) for name in names}, max_evals=4)
    frame = result.to_pandas()
    assert list(frame.columns[7:]) == ["param_failure", "param_param_loss", "param_loss", "param_state", "param_trial"]
    assert frame.columns.is_unique
    assert frame["loss"].tolist() == frame["param_param_loss"].tolist() == result.trials.losses()
    assert frame["trial"].tolist() == [0, 1, 2, 3]
    axes = result.plot().axes
    assert [axis.get_xlabel() for axis in axes[1:]] == names
    assert axes[2].collections[0].get_offsets().tolist() == [[loss, loss] for loss in frame["loss"]]


def test_hyperopts_plots_read_the_trials(here, monkeypatch):
    matplotlib.use("Agg")
    result = here(uneven, max_evals=20, stop="median")
    hyperopt.plotting.main_plot_history(result.trials, do_show=False)
    axis = matplotlib.pyplot.gca()
    drawn = [point for group in axis.collections for point in group.get_offsets()]
    assert len(drawn) == len([x for x in result.trials.losses() if x is not None])
    matplotlib.pyplot.close("all")
    hyperopt.plotting.main_plot_vars(result.trials, do_show=False)
    matplotlib.pyplot.close("all")
    assert math.isfinite(result.trials.average_best_error())
