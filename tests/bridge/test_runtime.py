"""TensorFlow starts late, quietly and with the threads asked for; rows and imports do without it."""

from __future__ import annotations

import os
import subprocess
import sys


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


def test_importing_the_rooms_imports_no_tensorflow():
    done = run(
        "import sys, elephas_fast.batches, elephas_fast.keras_bridge\n"
        "print(sorted({'keras', 'tensorflow', 'pyspark'} & set(sys.modules)))"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_start_is_quiet_sets_threads_once_and_keeps_stderr():
    done = run(
        "import sys\n"
        "from elephas_fast.keras_bridge import runtime\n"
        "runtime.start(threads=1)\n"
        "runtime.start(threads=2)\n"
        "tf = runtime.tensorflow()\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads(), end=' ')\n"
        "print(tf.config.threading.get_inter_op_parallelism_threads(), end=' ')\n"
        "print(float(tf.reduce_sum(tf.ones(3))))\n"
        "print('mine', file=sys.stderr)"
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["1", "1", "3.0"], "mine\n")


def test_another_backend_is_one_sentence():
    done = run(
        "from elephas_fast.keras_bridge import runtime\n"
        "try:\n    runtime.start()\nexcept RuntimeError as error:\n    print(error)",
        KERAS_BACKEND="jax",
    )
    assert done.stdout.startswith("Keras: expected the TensorFlow backend, got 'jax'; set KERAS_BACKEND=tensorflow")


def test_a_failed_import_shows_what_was_said():
    done = run(
        "import os, sys\n"
        "class Failing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'keras':\n"
        "            os.write(2, b'said before')\n"
        "            raise ImportError('no keras here')\n"
        "sys.meta_path.insert(0, Failing())\n"
        "from elephas_fast.keras_bridge import runtime\n"
        "runtime.start()"
    )
    assert done.returncode == 1
    assert "said before" in done.stderr
    assert "no keras here" in done.stderr
