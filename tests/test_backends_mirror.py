"""A backend is a namespace like the reference: the same files, names and signatures."""

import importlib
import inspect
import pkgutil

import pytest

from nbconv import backends
from nbconv_kernels import reference

BACKENDS = [name for name, state in backends.available().items() if state is True and name != "reference"]
OPS = [name for name in reference.__all__ if name != "name"]
ROOMS = {getattr(reference, op).__module__.rpartition(".")[2] for op in OPS}

# Brings arrays to the GPU, while the op of the room leaves them where they are.
ELSEWHERE = {"cuda": {"asarray"}}

mirrored = pytest.mark.parametrize("backend", BACKENDS)


def rooms(package):
    return {module.name for module in pkgutil.iter_modules(package.__path__)}


def parameters(function):
    """Names, kinds and defaults; annotations may differ in how closely they describe an array."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@mirrored
def test_every_op_lives_in_the_room_of_the_same_name(backend):
    package = backends.get(backend)
    assert rooms(package) >= ROOMS
    for room in sorted(ROOMS):
        specification = importlib.import_module(f"{reference.__name__}.{room}")
        ours = importlib.import_module(f"{package.__name__}.{room}")
        for name in OPS:
            if name in ELSEWHERE.get(backend, ()):
                continue
            if getattr(specification, name, None) is getattr(reference, name):
                assert getattr(ours, name) is getattr(package, name), f"{name} is not in {ours.__name__}"


@mirrored
def test_the_public_names_are_equal(backend):
    package = backends.get(backend)
    assert package.__all__ == reference.__all__
    assert package.name == backend


@mirrored
@pytest.mark.parametrize("op", OPS)
def test_signatures_are_equal(backend, op):
    ours, specification = getattr(backends.get(backend), op), getattr(reference, op)
    assert parameters(ours) == parameters(specification)
    assert ours.__doc__, f"{op} says nothing about itself"
