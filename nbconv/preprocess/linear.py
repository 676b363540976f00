"""Preprocessing of all elements together: principal components and whitening.

With the covariance U diag(v) U' of the training data, the columns of U its orthonormal eigenvectors:

    PCA        y = U' (x - mean)                          covariance diag(v)
    whitening  y = diag(v + eps)^-1/2 U' (x - mean)       covariance I
    ZCA        y = U diag(v + eps)^-1/2 U' (x - mean)     covariance I, and of all such y the nearest to x
"""

# The methods that all layers share are described in nbconv/layers/base.py.
# ruff: noqa: D102

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple, Self

import numpy as np

from nbconv.layers.base import Layer
from nbconv.layers.receptive import Span
from nbconv.layers.state import buffer
from nbconv.layers.validate import positive_integer
from nbconv.preprocess.moments import Data, covariance
from nbconv.typing import Array, Backprop, Shape


class _Components(NamedTuple):
    shape: Shape
    mean: Array
    vectors: Array  # (K, D), orthonormal, those of the largest variances first
    variances: Array  # (K,)


class PCA(Layer):
    """The training data's principal components: decorrelated, those of the largest variance first.

    Input (N, C, H, W) or (N, F), output (N, n_components). A layer that is not fitted gives NaN.

    Args:
        shape: of one example, (C, H, W) or (F,).
        n_components: the number of outputs.

    Attributes:
        weight: (n_components, D), D = C * H * W in that order: with :class:`PCA` orthonormal rows.
        variances: (n_components,), of the training data along the components.

    Source: CS4670.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ("mean", "weight", "variances")

    def __init__(self, shape: int | Shape, n_components: int) -> None:
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        if len(sizes) not in (1, 3):
            raise self.error(f"shape must be (F,) or (C, H, W), got {shape!r}")
        self.shape = tuple(positive_integer(size, "shape") for size in sizes)
        self.n_components = positive_integer(n_components, "n_components")
        elements = math.prod(self.shape)
        if self.n_components > elements:
            raise self.error(f"{elements} elements have no {n_components} components")
        self.mean: Array = buffer(self.shape, np.nan, self.dtype)
        self.weight: Array = buffer(self._weight_shape, 0.0, self.dtype)
        self.variances: Array = buffer((self.n_components,), 0.0, self.dtype)

    @classmethod
    def fit(cls, x: Data, n_components: int | None = None) -> Self:
        """A layer with the components of ``x``.

        Args:
            x: the training data: inputs (N, ...) of floating point, or a ``DataLoader``.
            n_components: how many; None for all along which ``x`` varies at all.

        Raises:
            DataError: when there are no examples, or they are not finite numbers of floating point.
            ValueError: when there are not so many components.
        """
        found = _components(cls.__name__, x, n_components)
        return cls._fitted(found, found.vectors)

    @classmethod
    def _fitted(cls, found: _Components, weight: Array) -> Self:
        layer = cls(found.shape, len(found.variances))
        layer.mean = found.mean.astype(layer.dtype, order="C")
        layer.weight = weight.astype(layer.dtype, order="C")
        layer.variances = found.variances.astype(layer.dtype)
        return layer

    @property
    def _weight_shape(self) -> Shape:
        return self.n_components, math.prod(self.shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        if input_shape[1:] != self.shape:
            needed = ", ".join(map(str, self.shape))
            raise self.error(f"expected an input of shape (N, {needed}), got {input_shape}")
        return input_shape[0], self.n_components

    def macs(self, input_shape: Shape) -> int:
        return input_shape[0] * math.prod(self._weight_shape)

    def input_span(self, span: Span, axis: int) -> Span | None:
        return None

    @property
    def output_is_free(self) -> bool:
        return True

    def infer(self, x: Array) -> Array:
        self.check(x)
        ops, mean = self.ops, self.mean.reshape(-1)
        flat = ops.flatten(x) if x.ndim == 4 else x
        # The mean is subtracted before the product, where it would cost the digits that whitening needs.
        centred = ops.batch_norm2d(flat[:, :, None, None], mean, mean * 0 + 1, eps=0.0)
        y: Array = ops.dense(centred.reshape(flat.shape), self.weight)
        return y

    def forward(self, x: Array, training: bool = False, *, input_grad: bool = True) -> tuple[Array, Backprop]:
        y, ops, input_shape, weight = self.infer(x), self.ops, x.shape, self.weight

        def backprop(dy: Array) -> Array | None:
            if not input_grad:
                return None
            dx: Array = ops.dense_backward_input(ops.flatten(dy) if dy.ndim == 4 else dy, weight)
            return ops.unflatten(dx, input_shape) if len(input_shape) == 4 else dx

        return y, backprop


class PCAWhitening(PCA):
    """Principal components brought to variance 1, so that the training data's covariance is the identity.

    Input (N, C, H, W) or (N, F), output (N, n_components); see :class:`PCA`.

    Source: CS4670.
    """

    @classmethod
    def fit(cls, x: Data, n_components: int | None = None, eps: float = 1e-5) -> Self:
        """A layer with the components of ``x``; see :meth:`PCA.fit`.

        Args:
            x: the training data: inputs (N, ...) of floating point, or a ``DataLoader``.
            n_components: how many; None for all along which ``x`` varies at all.
            eps: added to the variances, so that directions of almost none are not blown up to noise.

        Raises:
            DataError: when there are no examples, or they are not finite numbers of floating point.
            ValueError: when there are not so many components, or eps is negative.
        """
        found = _components(cls.__name__, x, n_components)
        return cls._fitted(found, found.vectors / _deviations(cls.__name__, found, eps)[:, None])


class ZCA(PCA):
    """Whitened data turned back into images: the identity as covariance, and still the same pictures.

    Input and output (N, C, H, W) or (N, F).

    Args:
        shape: of one example, (C, H, W) or (F,).
        n_components: that are kept; directions beyond them become 0.

    Attributes:
        weight: (D, D), symmetric, D = C * H * W in that order.
        variances: (n_components,), of the training data along the principal components.

    Source: CS4670; Bell and Sejnowski, "The independent components of natural scenes are edge filters", 1997.
    """

    @classmethod
    def fit(cls, x: Data, n_components: int | None = None, eps: float = 1e-5) -> Self:
        """A layer with the components of ``x``; see :meth:`PCAWhitening.fit`."""
        found = _components(cls.__name__, x, n_components)
        scaled = found.vectors / _deviations(cls.__name__, found, eps)[:, None]
        return cls._fitted(found, found.vectors.T @ scaled)

    @property
    def _weight_shape(self) -> Shape:
        elements = math.prod(self.shape)
        return elements, elements

    def output_shape(self, input_shape: Shape) -> Shape:
        super().output_shape(input_shape)
        return input_shape

    def infer(self, x: Array) -> Array:
        y = super().infer(x)
        return self.ops.unflatten(y, x.shape) if x.ndim == 4 else y


def _components(name: str, data: Data, wanted: int | None) -> _Components:
    shape, mean, products = covariance(name, data)
    variances, columns = np.linalg.eigh(products)
    variances, vectors = variances[::-1], columns.T[::-1]
    varying = int((variances > len(variances) * np.finfo(np.float64).eps * max(variances[0], 0)).sum())
    if wanted is not None and not 1 <= wanted <= len(variances):
        raise ValueError(f"{name}.fit: expected n_components of 1 to {len(variances)}, got {wanted}")
    count = max(varying, 1) if wanted is None else wanted
    vectors, variances = vectors[:count], variances[:count].clip(0)
    # An eigenvector's sign is anyone's choice: here the element that is largest is positive.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    return _Components(shape, mean, np.where(largest < 0, -vectors, vectors), variances)


def _deviations(name: str, found: _Components, eps: float) -> Array:
    """The square roots of the variances; infinite where there is no variance to divide by."""
    if not eps >= 0:
        raise ValueError(f"{name}.fit: eps must not be negative, got {eps}")
    deviations: Array = np.sqrt(found.variances + eps)
    return np.where(deviations > 0, deviations, np.inf)
