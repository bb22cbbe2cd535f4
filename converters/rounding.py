"""Rounding weights to int8 so that what a layer computes changes least, not each weight.

Rounding to nearest is optimal for uncorrelated inputs with zero mean, which activations are not:
after SiLU or ReLU6 all are positive and neighbouring pixels nearly equal, so errors of the weights
add up. Both functions minimise (q - w) H (q - w)^T over integers q, H = E[x x^T] of the inputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.observation import Matrix
from effnet_edge.models.network import FloatArray
from effnet_edge.models.quantized import Int8Array

_LIMIT = 127
_DAMPING = 0.01
"""Added to H's diagonal, relative to it: inputs vary more than a few photos show."""
_REACH = 2.0
"""No weight is moved further than this many steps, whatever its neighbours left to make up for."""
_BLOCK = 128
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""Ranges tried for each channel's weights, as parts of the largest."""
_SWEEPS = 4


def round_weights(
    weight: FloatArray, moment: Matrix, least_scale: FloatArray
) -> tuple[Int8Array, FloatArray]:
    """Quantize ``weight`` [out, ...] per output channel for inputs with moment H.

    ``moment`` is [K, K] for K weights per channel, or [out, K, K] where each channel has inputs of
    its own (depthwise). No scale is below ``least_scale`` [out], which is positive. Returns
    int8 of the weight's shape, and float32 scales [out].
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    moment = _damped(moment)
    scale = _scales(rows, np.diagonal(moment, axis1=-2, axis2=-1), least_scale)
    steps = rows / scale[:, None]
    rounded = _round_jointly(steps, moment) if moment.ndim == 2 else _round_each(steps, moment)
    return rounded.astype(np.int8).reshape(weight.shape), scale.astype(np.float32)


def _damped(moment: Matrix) -> Matrix:
    """H with more on its diagonal; inputs that are always zero get a little."""
    diagonal = np.diagonal(moment, axis1=-2, axis2=-1).copy()
    floor = 1e-6 * diagonal.mean(axis=-1, keepdims=True) + 1e-30
    extra = _DAMPING * diagonal + floor
    damped: Matrix = moment + extra[..., None] * np.eye(moment.shape[-1])
    return damped


def _scales(rows: Matrix, importance: Matrix, least: FloatArray) -> Matrix:
    """Per row the scale whose plain rounding has the least error, weighted by ``importance``."""
    largest = np.abs(rows).max(axis=1)
    best_scale: Matrix = np.maximum(largest / _LIMIT, least).astype(np.float32).astype(np.float64)
    best_error = np.full(len(rows), np.inf)
    for shrink in _SHRINKS:
        scale = np.maximum(shrink * largest / _LIMIT, least).astype(np.float32).astype(np.float64)
        steps = rows / scale[:, None]
        error = np.clip(np.rint(steps), -_LIMIT, _LIMIT) - steps
        weighted = np.sum(importance * error**2, axis=1) * scale**2
        better = weighted < best_error
        best_error[better], best_scale[better] = weighted[better], scale[better]
    return best_scale


def _round_jointly(steps: Matrix, moment: Matrix) -> Matrix:
    """Round column by column; each column's error is made up for by those after it.

    What GPTQ computes (Frantar et al. 2022, "GPTQ", algorithm 1), without H's inverse: with
    H = R R^T, R upper triangular, the error is the squared length of e R for e = q - w, whose
    entry j the choice of q_j alone makes least, given the columns before it. In blocks; the order
    is by falling importance.
    """
    order = np.argsort(-np.diag(moment), kind="stable")
    backwards = order[::-1]
    upper = np.linalg.cholesky(moment[np.ix_(backwards, backwards)])[::-1, ::-1]
    wanted = steps.T[order]  # one column of weights per row: contiguous
    rounded = np.empty_like(wanted)
    errors = np.empty_like(wanted)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        before = upper[:start, start:stop].T @ errors[:start]
        for column in range(start, stop):
            inside = upper[start:column, column] @ errors[start:column]
            made_up = (before[column - start] + inside) / upper[column, column]
            target = wanted[column] - np.clip(made_up, -_REACH, _REACH)
            rounded[column] = np.clip(np.rint(target), -_LIMIT, _LIMIT)
            errors[column] = rounded[column] - wanted[column]
    result = np.empty_like(steps)
    result[:, order] = rounded.T
    return result


def _round_each(steps: Matrix, moments: Matrix) -> Matrix:
    """Round each row by coordinate descent from the nearest integers: single weights, then pairs
    in opposite directions, which leave the kernel's sum as it is."""
    count = steps.shape[1]
    rounded = np.clip(np.rint(steps), -_LIMIT, _LIMIT)
    gradient = np.einsum("cij,cj->ci", moments, rounded - steps)
    diagonal = np.diagonal(moments, axis1=1, axis2=2)

    def move(index: int, by: NDArray[np.float64]) -> None:
        (rows,) = np.nonzero(by)
        rounded[rows, index] += by[rows]
        gradient[rows] += moments[rows, :, index] * by[rows, None]

    for _ in range(_SWEEPS):
        for i in range(count):
            best = np.rint(rounded[:, i] - gradient[:, i] / diagonal[:, i])
            best = np.clip(best, steps[:, i] - _REACH, steps[:, i] + _REACH)
            move(i, np.clip(np.rint(best), -_LIMIT, _LIMIT) - rounded[:, i])
        for i in range(count):
            for j in range(i + 1, count):
                step = np.where(gradient[:, i] > gradient[:, j], -1.0, 1.0)
                change = 2 * step * (gradient[:, i] - gradient[:, j]) + (
                    diagonal[:, i] + diagonal[:, j] - 2 * moments[:, i, j]
                )
                within = np.maximum(np.abs(rounded[:, i] + step), np.abs(rounded[:, j] - step))
                near = np.maximum(
                    np.abs(rounded[:, i] + step - steps[:, i]),
                    np.abs(rounded[:, j] - step - steps[:, j]),
                )
                step[(change >= 0) | (within > _LIMIT) | (near > _REACH)] = 0
                move(i, step)
                move(j, -step)
    return rounded
