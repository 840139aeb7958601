"""What plain Keras reaches: ``python with_keras.py SCRIPT...`` trains each script's model on its rows, for as many
epochs and with as large batches, in one process, and prints the test metric of each as JSON."""

import json
import runpy
import sys
from pathlib import Path

import keras

from elephas_fast import install_as_elephas


def metric(script):
    """Accuracy, or for a regression the root of the mean squared error, on the script's test rows."""
    names = runpy.run_path(script, run_name="imported")
    x_train, y_train, x_test, y_test = names["load_data"]()
    keras.utils.set_random_seed(1)
    model = names["build_model"]()
    epochs = names["epochs"] if "epochs" in names else names["nb_epoch"]
    how = {name: names[name] for name in ("batch_size", "validation_split")}
    model.fit(x_train, y_train, epochs=epochs, **how, verbose=0)
    logs = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    return next(logs[name] for name in ("accuracy", "acc") if name in logs) if y_test.ndim == 2 else logs["loss"] ** 0.5


if __name__ == "__main__":
    install_as_elephas()
    print(json.dumps({Path(script).name: metric(script) for script in sys.argv[1:]}))
