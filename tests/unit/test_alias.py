"""``import elephas`` as this package, each time in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark import find_spark_home

from elephas_fast.alias.submission import send_to_executors

INSTALL = "from elephas_fast import install_as_elephas; install_as_elephas(); "


def run(code: str, *flags: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=120, cwd=cwd)


def test_both_names_are_one_module() -> None:
    code = INSTALL + (
        "import elephas.utils.functional_utils as theirs, elephas_fast.utils.functional_utils as ours, elephas, sys; "
        "from elephas.enums.modes import Mode; from elephas_fast.enums import modes; "
        "assert theirs is ours and Mode is modes.Mode; "
        "from elephas import optimizers as early, SparkModel; from elephas_fast import optimizers as todays; "
        "assert (early.Adagrad().lr, todays.Adagrad().lr) == (0.01, 0.001); "
        "assert sys.modules['elephas.optimizers'] is early is elephas.optimizers; "
        "assert elephas.spark_model.SparkModel is SparkModel; "
        "assert sys.modules['elephas.spark_model'] is sys.modules['elephas_fast.spark_model']; "
        "assert not hasattr(elephas, 'nothing_of_the_kind') and elephas.__version__; "
        "assert ours.__spec__.name == 'elephas_fast.utils.functional_utils', ours.__spec__; "
        "install_as_elephas()"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_what_there_is_not_is_named() -> None:
    done = run(INSTALL + "import elephas.nothing_of_the_kind")
    assert "No module named 'elephas.nothing_of_the_kind' in elephas_fast" in done.stderr
    done = run(INSTALL + "import elephas.java.java_classes")
    assert "ImportError: elephas.java" in done.stderr


def test_hyperas_is_ours_unless_it_is_installed(tmp_path: Path) -> None:
    code = (
        "from hyperas import optim; from hyperas.distributions import uniform; import hyperas; print(hyperas.__name__)"
    )
    done = run(INSTALL + code, "-W", "ignore", cwd=tmp_path)
    assert done.stdout.strip() == "elephas_fast.alias.hyperas", done.stderr
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-W', 'ignore', '-c', {code!r}], check=True)"
    done = run(INSTALL + inner, cwd=tmp_path)
    assert done.stdout.strip() == "elephas_fast.alias.hyperas", done.stderr
    (tmp_path / "hyperas").mkdir()
    for name in ("__init__", "optim"):
        (tmp_path / "hyperas" / f"{name}.py").touch()
    (tmp_path / "hyperas" / "distributions.py").write_text("uniform = 1\n")
    for script in (INSTALL + code, INSTALL + inner):
        done = run(script, "-W", "ignore", cwd=tmp_path)
        assert done.stdout.strip() == "hyperas", done.stderr


def test_too_late_is_said(tmp_path: Path) -> None:
    (tmp_path / "elephas").mkdir()
    (tmp_path / "elephas" / "__init__.py").touch()
    done = run("import elephas; from elephas_fast import install_as_elephas; install_as_elephas()", cwd=tmp_path)
    assert "RuntimeError: install_as_elephas: expected to be called before elephas is imported" in done.stderr


def test_a_process_started_later_finds_it_too() -> None:
    code = INSTALL + (
        "import subprocess, sys; "
        'inner = \'import elephas.enums.modes as m, elephas; assert m.__name__ == "elephas_fast.enums.modes"; '
        "print(elephas.optimizers.__name__)'; "
        "print(subprocess.run([sys.executable, '-c', inner], capture_output=True, text=True, check=True).stdout)"
    )
    done = run(code)
    assert done.stdout.strip() == "elephas_fast.alias.optimizers", done.stderr


def test_a_script_runs_as_main(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 7\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom beside import VALUE\nfrom elephas.enums.frequency import Frequency\n"
        "if __name__ == '__main__':\n    print(sys.argv[1:], VALUE, Frequency.EPOCH.value)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "elephas_fast", str(script), "--rows", "3"], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "['--rows', '3'] 7 epoch", done.stderr
    done = subprocess.run([sys.executable, "-m", "elephas_fast"], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "usage: python -m elephas_fast" in done.stderr


@pytest.mark.parametrize(
    "path",
    [
        "elephas.spark_model", "elephas.optimizers", "elephas.mllib", "elephas.mllib.adapter", "elephas.utils",
        "elephas.utils.rdd_utils", "elephas.utils.functional_utils", "elephas.utils.sockets", "elephas.worker",
        "elephas.enums.modes", "elephas.enums.frequency",
    ],
)  # fmt: skip
def test_paths_of_elephas_import(path: str) -> None:
    done = run(INSTALL + f"import {path}", "-W", "ignore")
    assert done.returncode == 0, done.stderr


IN_WORKERS = """
from elephas_fast import install_as_elephas
install_as_elephas()
from pyspark import SparkConf, SparkContext
sc = SparkContext(conf=SparkConf().set("spark.ui.enabled", "false").set("spark.log.level", "OFF"))
def name(_):
    from elephas.enums import modes
    return modes.__name__
print("NAMED", sc.parallelize([0], 1).map(name).first())
"""


def test_under_spark_submit_workers_find_it(tmp_path: Path) -> None:
    """Spark runs before the script does, and starts its workers without the script's environment."""
    (tmp_path / "script.py").write_text(IN_WORKERS)
    submit = Path(find_spark_home._find_spark_home()) / "bin" / "spark-submit"
    done = subprocess.run(
        [str(submit), "--master", "local[1]", str(tmp_path / "script.py")],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYSPARK_PYTHON": sys.executable},
    )  # fmt: skip
    assert "NAMED elephas_fast.enums.modes" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "--py-files {0} pyspark-shell"),
        ("--master 'local[2]' pyspark-shell", "--py-files {0} --master 'local[2]' pyspark-shell"),
        ("--py-files a.zip --name x pyspark-shell", "--py-files a.zip,{0} --name x pyspark-shell"),
    ],
)
def test_arguments_of_spark_get_one_more_file(monkeypatch: pytest.MonkeyPatch, before: str | None, after: str) -> None:
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "")
    if before is None:
        monkeypatch.delenv("PYSPARK_SUBMIT_ARGS")
    else:
        monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", before)
    send_to_executors("/home/elephas.py")
    assert os.environ["PYSPARK_SUBMIT_ARGS"] == after.format("/home/elephas.py")
