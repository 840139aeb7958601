"""The networks of the search suite: hyper-parameters of an MLP and of a CNN on scikit-learn's digits."""

from __future__ import annotations

from typing import Any

import numpy as np

EPOCHS = 9


def rows() -> dict[str, np.ndarray]:
    """Three parts: 1,000 digits to train on, 400 to choose by, 397 to test the choice."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x, y = (digits.data[order] / 16.0).astype(np.float32), digits.target[order].astype(np.int32)
    return {
        "x_train": x[:1000], "y_train": y[:1000], "x_valid": x[1000:1400], "y_valid": y[1000:1400],
        "x_test": x[1400:], "y_test": y[1400:],
    }  # fmt: skip


def space() -> dict[str, Any]:
    from hyperopt import hp

    return {
        "rate": hp.loguniform("rate", np.log(1e-4), np.log(1e-1)),
        "units": hp.choice("units", [8, 16, 32, 64, 128]),
        "dropout": hp.uniform("dropout", 0.0, 0.7),
        "batch_size": hp.choice("batch_size", [16, 32, 64, 128]),
        "activation": hp.choice("activation", ["relu", "tanh", "sigmoid"]),
    }


def layers(values: dict[str, Any], network: str) -> list[Any]:
    """Those of an MLP, or of a CNN, for rows of 64 numbers."""
    import keras

    inside = [keras.layers.Dense(values["units"], values["activation"])]
    if network == "CNN":
        inside = [
            keras.layers.Reshape((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation=values["activation"]),
            keras.layers.Conv2D(32, 3, padding="same", activation=values["activation"]),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            *inside,
        ]
    return [keras.Input((64,)), *inside, keras.layers.Dropout(values["dropout"]), keras.layers.Dense(10, "softmax")]


def objective(values: dict[str, Any], data: dict[str, np.ndarray], network: str = "MLP") -> dict[str, Any]:
    """Trains for `EPOCHS` epochs; the loss is the least on the rows kept for choosing, reported after each epoch."""
    import keras

    from elephas_fast.hyperparam import report_losses

    model = keras.Sequential(layers(values, network))
    model.compile(keras.optimizers.Adam(values["rate"]), "sparse_categorical_crossentropy")
    history = model.fit(
        data["x_train"], data["y_train"], batch_size=values["batch_size"], epochs=EPOCHS, verbose=0,
        validation_data=(data["x_valid"], data["y_valid"]), callbacks=[report_losses("val_loss")],
    )  # fmt: skip
    return {"loss": history.history["val_loss"][-1], "status": "ok", "model": model}
