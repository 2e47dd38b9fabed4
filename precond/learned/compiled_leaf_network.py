"""The leaf network's forward pass on the CPU, for the few leaves that change from frame to frame, whose
arithmetic takes less time than torch's calls: see precond.learned.leaf_network.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

from precond.host.compiled import compiled
from precond.learned.leaf_network import LeafNetwork

CELLS, FEATURES = 16, 6  # precond.learned.leaf_network.CELLS and FEATURES
LOG_UNIT, MISSING = 3.0, -9.0  # and its LOG_UNIT and MISSING
EPSILON = float(np.finfo(np.float32).eps)  # of torch's RMSNorm

Array = np.ndarray


class Parameters(NamedTuple):
    """A network of width d with B residual blocks and m columns: matrices as (inputs, outputs), float32."""

    lift: Array
    lift_bias: Array
    norms: Array  # (B + 1, d), the last one before the head
    up: Array  # (B, d, d)
    up_bias: Array
    down: Array  # (B, d, d)
    down_bias: Array
    head: Array
    head_bias: Array
    start: Array  # (16, m)


def parameters_of(network: LeafNetwork) -> Parameters:
    """Copies of a ``network``'s, which has no attention."""
    width, blocks = network.config.width, list(network.blocks)

    def stacked(tensors: list[Tensor], *shape: int) -> Array:
        arrays = [tensor.detach().numpy() for tensor in tensors]
        return np.array(arrays, dtype=np.float32).reshape(len(arrays), *shape)

    square = width, width
    return Parameters(
        lift=stacked([network.lift.weight.T], -1, width)[0],
        lift_bias=stacked([network.lift.bias], width)[0],
        norms=stacked([*(block.norm.weight for block in blocks), network.norm.weight], width),
        up=stacked([block.up.weight.T for block in blocks], *square),
        up_bias=stacked([block.up.bias for block in blocks], width),
        down=stacked([block.down.weight.T for block in blocks], *square),
        down_bias=stacked([block.down.bias for block in blocks], width),
        head=stacked([network.head.weight.T], width, -1)[0],
        head_bias=stacked([network.head.bias], -1)[0],
        start=network.start.numpy().copy(),
    )


@compiled
def leaf_features(weights: Array, out: Array) -> None:
    """What the network sees: ``out`` (K, 16, 6) float32 from face ``weights`` (K, 16, 4) float64."""
    for k in range(len(weights)):
        mean, count = 0.0, 0
        for c in range(CELLS):
            total = weights[k, c, 0] + weights[k, c, 1] + weights[k, c, 2] + weights[k, c, 3]
            if total > 0.0:
                mean += math.log(total)
                count += 1
        mean /= max(count, 1)
        for c in range(CELLS):
            total = weights[k, c, 0] + weights[k, c, 1] + weights[k, c, 2] + weights[k, c, 3]
            for f in range(FEATURES):
                out[k, c, f] = 0.0
            if total > 0.0:
                for f in range(4):
                    weight = weights[k, c, f]
                    out[k, c, f] = (math.log(weight) - mean if weight > 0.0 else MISSING) / LOG_UNIT
                out[k, c, 4] = (math.log(total) - mean) / LOG_UNIT
                out[k, c, 5] = 1.0


@compiled
def add_row(x: Array, bias: Array) -> None:
    """``x`` (K, n) += ``bias`` (n,)."""
    for k in range(len(x)):
        for n in range(len(bias)):
            x[k, n] += bias[n]


@compiled
def gelu(x: Array) -> None:
    """x Phi(x) in the place of ``x`` (K, n), Phi the normal distribution's."""
    for k in range(x.shape[0]):
        for n in range(x.shape[1]):
            x[k, n] *= 0.5 * (1.0 + math.erf(x[k, n] * math.sqrt(0.5)))


@compiled
def normed(x: Array, weight: Array) -> Array:
    """Rows of ``x`` (K, d) over their root mean square, times ``weight`` (d,)."""
    out = np.empty_like(x)
    for k in range(x.shape[0]):
        total = 0.0
        for n in range(x.shape[1]):
            total += x[k, n] * x[k, n]
        scale = 1.0 / math.sqrt(total / x.shape[1] + EPSILON)
        for n in range(x.shape[1]):
            out[k, n] = x[k, n] * scale * weight[n]
    return out


@compiled
def columns_of(weights: Array, parameters: Parameters) -> Array:
    """Columns (K, 16, m) float32 of leaves with the face ``weights`` (K, 16, 4)."""
    count, columns = len(weights), parameters.start.shape[1]
    features = np.empty((count, CELLS, FEATURES), np.float32)
    leaf_features(weights, features)
    x = np.dot(features.reshape(count, CELLS * FEATURES), parameters.lift)
    add_row(x, parameters.lift_bias)
    gelu(x)
    for b in range(len(parameters.norms) - 1):
        inner = np.dot(normed(x, parameters.norms[b]), parameters.up[b])
        add_row(inner, parameters.up_bias[b])
        gelu(inner)
        x += np.dot(inner, parameters.down[b])
        add_row(x, parameters.down_bias[b])
    bend = np.dot(normed(x, parameters.norms[-1]), parameters.head)
    add_row(bend, parameters.head_bias)
    out = bend.reshape(count, CELLS, columns)
    for k in range(count):
        for c in range(CELLS):
            for m in range(columns):
                out[k, c, m] = (out[k, c, m] + parameters.start[c, m]) * features[k, c, 5]
    return out
