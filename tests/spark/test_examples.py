"""The examples run as their texts say, each in a process of its own, and leave nothing behind."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pyspark
import pytest

from elephas_fast import load_spark_model
from tests.spark import fresh_process

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
PLAIN = ["basic", "mllib", "ml_pipeline"]
GOALS = {"basic": 0.84, "mllib": 0.78, "ml_pipeline": 0.80, "spark_submit": 0.8}
"""Accuracies that each reaches on Fashion-MNIST and on digits, with room for the order in which workers meet."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def on_digits(monkeypatch):
    """The small data, which take the same way; ``make demo`` trains on Fashion-MNIST."""
    monkeypatch.setenv("EXAMPLES_DATA", "digits")


def accuracies(out: str) -> list[float]:
    return [float(number) / 100 for number in re.findall(r"accuracy.*?([0-9.]+)%", out)]


@pytest.mark.parametrize("name", PLAIN)
def test_example(name, tmp_path):
    out = fresh_process.run([sys.executable, str(EXAMPLES / f"{name}.py")], tmp_path, timeout=400)
    assert accuracies(out)[-1] >= GOALS[name], out
    assert len(out.splitlines()) <= 20, "expected little output"
    if name != "mllib":
        trained, loaded = accuracies(out)[-2:]
        assert loaded == trained, "saved and loaded, expected the same accuracy"


def test_hyper_parameters_as_elephas_had_them(tmp_path):
    command = [sys.executable, "-m", "elephas_fast", str(EXAMPLES / "hyperparam.py")]
    out = fresh_process.run(command, tmp_path, timeout=500)
    best, together = accuracies(out)  # of one search and of another, with eight trials each
    assert best >= 0.85, out
    assert together >= 0.85, out
    assert len(out.splitlines()) == 2 * (8 + 2) + 2, out
    assert not list(tmp_path.rglob("*.py")), "no file is written"


def test_a_job_for_spark_submit(tmp_path):
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    saved = tmp_path / "job.keras"
    confs = ["--conf", "spark.ui.enabled=false", "--conf", fresh_process.DAEMON, "--master", "local[2]"]
    job = [str(EXAMPLES / "spark_submit.py"), "--epochs", "20", "--save", str(saved)]
    out = fresh_process.run([str(submit), *confs, *job], tmp_path, timeout=400)
    assert "on local[2]" in out
    assert accuracies(out)[-1] >= GOALS["spark_submit"], out
    assert load_spark_model(str(saved)).mode == "hogwild"


def test_the_job_does_not_say_where_it_runs():
    text = (EXAMPLES / "spark_submit.py").read_text()
    code = text.split('"""', 2)[2]
    assert "master(" not in code
    assert "setMaster" not in code


def test_the_notebook_runs(tmp_path):
    again = tmp_path / "again.ipynb"
    command = [sys.executable, str(ROOT / "tools" / "run_notebook.py"), str(EXAMPLES / "elephas_fast.ipynb")]
    fresh_process.run([*command, "--out", str(again)], tmp_path, timeout=500)
    shown = printed(again)
    for mode in ("synchronous", "asynchronous", "hogwild"):
        line = next(line for line in shown.splitlines() if line.startswith(mode))
        assert accuracies(line)[0] >= 0.84, shown
    assert "the same by the workers: True" in shown
    assert accuracies(shown)[-1] >= GOALS["ml_pipeline"], shown
    assert pictures(again) == 3


def test_the_notebook_of_hyper_parameters_runs(tmp_path):
    again = tmp_path / "again.ipynb"
    command = [sys.executable, str(ROOT / "tools" / "run_notebook.py"), str(EXAMPLES / "hyperparam.ipynb")]
    fresh_process.run([*command, "--out", str(again)], tmp_path, timeout=500)
    for notebook in (again, EXAMPLES / "hyperparam.ipynb"):
        shown = printed(notebook)
        assert accuracies(shown)[-1] >= 0.85, shown
        trained, most = map(int, re.findall(r"epochs trained: (\d+) of (\d+)", shown)[0])
        assert trained < most, "expected some trials to end early"
        assert pictures(notebook) == 1
        tables = [html for html in htmls(notebook) if "<td>parameters</td>" in html]
        assert len(tables) == 3
        assert tables[0].count("<tr>") == 1 + 8
        assert "8/8 trials; best loss" in tables[0]


def test_the_notebook_in_the_repository_holds_what_it_showed():
    notebook = EXAMPLES / "elephas_fast.ipynb"
    assert pictures(notebook) == 3
    assert "hogwild" in printed(notebook)
    cells = nbformat.read(notebook, as_version=4).cells
    counts = [cell.execution_count for cell in cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "expected every cell to have been run once, in order"
    assert not [o for cell in cells for o in cell.get("outputs", []) if o.output_type == "error"]


def test_every_example_is_in_the_list():
    text = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert path.name in text, path.name


def printed(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def pictures(notebook: Path) -> int:
    cells = nbformat.read(notebook, as_version=4).cells
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


def htmls(notebook: Path) -> list[str]:
    cells = nbformat.read(notebook, as_version=4).cells
    return [
        "".join(output.get("data", {}).get("text/html", "")) for cell in cells for output in cell.get("outputs", [])
    ]
