"""The optimizers once more, written from their formulas in float64 NumPy, for one tensor."""

from __future__ import annotations

import numpy as np

from elephas_fast.optimizers import SGD, Adadelta, Adagrad, Adam, Optimizer, RMSprop, Schedule


def train(optimizer: Optimizer, weights: np.ndarray, gradients: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Weights and slots after the updates with `gradients[step]`."""
    w = weights.astype(np.float64)
    slots = [np.full(w.shape, value, np.float64) for value in optimizer.slot_initial]
    for step, gradient in enumerate(gradients.astype(np.float64)):
        rate = optimizer.learning_rate
        lr = rate(step) if isinstance(rate, Schedule) else rate
        g = _clipped(optimizer, gradient)
        if optimizer.weight_decay is not None:
            w = w * (1 - optimizer.weight_decay * lr)
        w = _RULES[type(optimizer)](optimizer, step + 1, lr, w, slots, g)
    return w, slots


def _clipped(optimizer: Optimizer, g: np.ndarray) -> np.ndarray:
    bound = optimizer.clipnorm or optimizer.global_clipnorm
    if bound is not None:
        return g * min(1.0, bound / max(np.sqrt(np.sum(g * g)), 1e-300))
    if optimizer.clipvalue is not None:
        return np.clip(g, -optimizer.clipvalue, optimizer.clipvalue)
    return g


def _sgd(o: SGD, t: int, lr: float, w: np.ndarray, slots: list[np.ndarray], g: np.ndarray) -> np.ndarray:
    if not slots:
        return w - lr * g
    slots[0] = o.momentum * slots[0] - lr * g
    return w + (o.momentum * slots[0] - lr * g if o.nesterov else slots[0])


def _rmsprop(o: RMSprop, t: int, lr: float, w: np.ndarray, slots: list[np.ndarray], g: np.ndarray) -> np.ndarray:
    slots[0] = o.rho * slots[0] + (1 - o.rho) * g * g
    variance = slots[0]
    if o.centered:
        slots[-1] = o.rho * slots[-1] + (1 - o.rho) * g
        variance = variance - slots[-1] ** 2
    step = lr * g / np.sqrt(variance + o.epsilon)
    if o.momentum:
        step = slots[1] = o.momentum * slots[1] + step
    return w - step


def _adagrad(o: Adagrad, t: int, lr: float, w: np.ndarray, slots: list[np.ndarray], g: np.ndarray) -> np.ndarray:
    slots[0] = slots[0] + g * g
    return w - lr * g / np.sqrt(slots[0] + o.epsilon)


def _adadelta(o: Adadelta, t: int, lr: float, w: np.ndarray, slots: list[np.ndarray], g: np.ndarray) -> np.ndarray:
    slots[0] = o.rho * slots[0] + (1 - o.rho) * g * g
    delta = -np.sqrt(slots[1] + o.epsilon) / np.sqrt(slots[0] + o.epsilon) * g
    slots[1] = o.rho * slots[1] + (1 - o.rho) * delta * delta
    return w + lr * delta


def _adam(o: Adam, t: int, lr: float, w: np.ndarray, slots: list[np.ndarray], g: np.ndarray) -> np.ndarray:
    slots[0] = o.beta_1 * slots[0] + (1 - o.beta_1) * g
    slots[1] = o.beta_2 * slots[1] + (1 - o.beta_2) * g * g
    velocity = slots[1]
    if o.amsgrad:
        velocity = slots[2] = np.maximum(slots[2], velocity)
    # Powers of the rounded betas, as Keras takes them: at the first steps 1 - beta_2 shows the rounding.
    power_1, power_2 = float(np.float32(o.beta_1)) ** t, float(np.float32(o.beta_2)) ** t
    alpha = lr * np.sqrt(1 - power_2) / (1 - power_1)
    return w - alpha * slots[0] / (np.sqrt(velocity) + o.epsilon)


_RULES = {SGD: _sgd, RMSprop: _rmsprop, Adagrad: _adagrad, Adadelta: _adadelta, Adam: _adam}
