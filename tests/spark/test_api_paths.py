"""Every import path of every generation of Elephas, and the names that scripts take from it, with ``elephas`` meaning
this package; and what such scripts call of the Keras of their time."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PATHS = {
    "elephas": "",
    "elephas.spark_model": (
        "SparkModel SparkMLlibModel load_spark_model AsynchronousSparkModel SparkHFModel SparkWorker "
        "AsynchronousSparkWorker get_server_weights put_deltas_to_server"
    ),
    "elephas.optimizers": (
        "SGD RMSprop Adagrad Adadelta Adam sgd rmsprop adagrad adadelta adam Optimizer get serialize deserialize"
    ),
    "elephas.ml_model": "ElephasEstimator ElephasTransformer load_ml_estimator load_ml_transformer",
    "elephas.ml": "to_data_frame from_data_frame df_to_simple_rdd",
    "elephas.ml.adapter": "to_data_frame from_data_frame df_to_simple_rdd",
    "elephas.ml.params": (
        "HasKerasModelConfig HasMode HasFrequency HasNumberOfClasses HasCategoricalLabels HasEpochs HasBatchSize "
        "HasVerbosity HasValidationSplit HasNumberOfWorkers HasKerasOptimizerConfig HasMetrics HasLoss "
        "HasCustomObjects HasInferenceBatchSize HasOptimizerConfig HasElephasOptimizerConfig"
    ),
    "elephas.mllib": "from_matrix to_matrix from_vector to_vector",
    "elephas.mllib.adapter": "from_matrix to_matrix from_vector to_vector",
    "elephas.worker": "SparkWorker AsynchronousSparkWorker",
    "elephas.parameter": (
        "BaseParameterServer HttpServer SocketServer BaseParameterClient HttpClient SocketClient"
    ),
    "elephas.parameter.server": "BaseParameterServer HttpServer SocketServer",
    "elephas.parameter.client": "BaseParameterClient HttpClient SocketClient",
    "elephas.parameter.factory": "ClientServerFactory HttpFactory SocketFactory",
    "elephas.enums": "",
    "elephas.enums.modes": "Mode",
    "elephas.enums.frequency": "Frequency",
    "elephas.utils": (
        "add_params subtract_params get_neutral divide_by average_and_subtract to_simple_rdd to_labeled_point "
        "from_labeled_point lp_to_simple_rdd encode_label model_to_dict dict_to_model weights_to_bytes "
        "bytes_to_weights determine_master send receive send_bytes recv_bytes wait_until_listening RWLock"
    ),
    "elephas.utils.rdd_utils": "to_simple_rdd to_labeled_point from_labeled_point lp_to_simple_rdd encode_label",
    "elephas.utils.functional_utils": "add_params subtract_params get_neutral divide_by average_and_subtract",
    "elephas.utils.rwlock": "RWLock",
    "elephas.utils.serialization": "model_to_dict dict_to_model weights_to_bytes bytes_to_weights",
    "elephas.utils.sockets": "determine_master send receive send_bytes recv_bytes wait_until_listening",
    "elephas.utils.notebook_utils": "is_running_in_notebook",
    "elephas.utils.model_utils": (
        "ModelType LossModelTypeMapper ModelTypeEncoder as_enum argmax is_multiple_input_model "
        "is_multiple_output_model"
    ),
    "elephas.utils.warnings": "ElephasWarning",
    "elephas.utils.versioning_utils": "get_minor_version",
    "elephas.utils.huggingface_utils": "pad_labels",
    "elephas.hyperparam": "HyperParamModel HyperasWorker VotingModel search report",
    "hyperas.distributions": (
        "choice conditional randint uniform quniform loguniform qloguniform normal qnormal lognormal qlognormal"
    ),
    "hyperas.optim": "minimize",
    "hyperas.ensemble": "VotingModel",
    "keras.layers.core": "Activation Dense Dropout Flatten",
    "keras.layers.convolutional": "Conv2D MaxPooling2D",
    "keras.layers.recurrent": "GRU LSTM",
    "keras.models": "Sequential model_from_yaml",
    "keras.utils.np_utils": "to_categorical",
}  # fmt: skip
"""Path: names."""

JAVA = ("elephas.dl4j", "elephas.java", "elephas.java.java_classes", "elephas.java.adapter")

SCRIPT = """
import importlib, json, sys
from elephas_fast import install_as_elephas
install_as_elephas()
paths, java = json.loads(sys.argv[1])
found = {}
for path, names in paths.items():
    try:
        module = importlib.import_module(path)
        found[path] = [name for name in names.split() if not hasattr(module, name)]
    except Exception as error:
        found[path] = repr(error)
for path in java:
    try:
        importlib.import_module(path)
    except ImportError as error:
        found[path] = str(error)

import keras, numpy as np
from keras.layers.core import Dense
model = keras.Sequential([keras.Input((3,)), Dense(2, activation="softmax")])
model.compile("sgd", "categorical_crossentropy")
x, y = np.ones((8, 3)), np.eye(2)[[0, 1] * 4]
history = model.fit(x, y, nb_epoch=2, show_accuracy=True, verbose=0).history
again = keras.models.model_from_yaml(model.to_yaml())
again.set_weights(model.get_weights())
again.compile("sgd", "categorical_crossentropy")
found["accuracy"] = history["accuracy"] + again.evaluate(x, y, show_accuracy=True, verbose=0)[1:]
try:
    model.fit(x, y, nb_epoch=2, epochs=1)
except TypeError as error:
    found["both"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def walked() -> dict[str, object]:
    """Path: names that are missing, or an error, from one fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps([PATHS, JAVA])],
        capture_output=True, text=True, timeout=240, env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("path", PATHS)
def test_the_path_imports_and_has_its_names(walked, path):
    assert walked[path] == []


@pytest.mark.parametrize("path", JAVA)
def test_java_is_refused_with_a_reason(walked, path):
    assert "Keras models only" in walked[path]


def test_what_scripts_call_of_early_keras(walked):
    assert walked["accuracy"] == [0.5] * 3
    assert walked["both"] == "nb_epoch: expected it or epochs, which is today's name of it, got both; give one"
