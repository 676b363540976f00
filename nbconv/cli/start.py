"""The model that ``nbconv train`` begins with: a new one, or one that has learned something."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nbconv import models
from nbconv.cli import common
from nbconv.cli.datasets import DataSet
from nbconv.cli.recorded import model_file, recorded
from nbconv.errors import DataError, NbconvError
from nbconv.models.auxiliary import AuxiliaryHead

if TYPE_CHECKING:
    from nbconv.sequential import Sequential


def model_of(options: argparse.Namespace, data_set: DataSet) -> Sequential:
    """The model asked for, with logits for the classes of the data set.

    Raises:
        NbconvError: for options that do not go together, or a saved model that does not fit.
    """
    if options.resume is not None:
        return _resumed(options, data_set)
    if options.weights is None:
        if options.freeze_base:
            raise NbconvError("--freeze-base needs --weights: a new network has learned nothing to be kept")
        small = options.model in models.names(small=True)
        return models.get(options.model, small=small)(
            num_classes=data_set.classes,
            in_channels=data_set.channels,
            backend=options.backend,
            seed=options.seed,
        )
    if options.preprocess != "none" or options.whiten:
        raise NbconvError("--preprocess and --whiten do not go with --weights: the model brings its own")
    return _learned(options, data_set)


def name_of(options: argparse.Namespace) -> str:
    """What to call it."""
    return str(options.model if options.weights is None else options.weights)


def _learned(options: argparse.Namespace, data_set: DataSet) -> Sequential:
    """A saved model, with a new head if its classes are others."""
    import nbconv as nb

    path = model_file(options.weights)
    known = recorded(path).classes
    model: Sequential = nb.load(path, options.backend)
    found = common.logits(model, data_set)
    model.seed = options.seed
    if options.freeze_base:
        model.freeze()
    if found != data_set.classes or (known is not None and known != data_set.labels):
        model.replace_head(data_set.classes)
    elif options.freeze_base:
        _unfreeze_heads(model)
    return model


def _resumed(options: argparse.Namespace, data_set: DataSet) -> Sequential:
    """The model in a checkpoint, as it was trained there."""
    import nbconv as nb

    known = recorded(options.resume).classes
    if known is not None and known != data_set.labels:
        raise DataError(
            f"{options.resume} is of a run on classes {', '.join(known[:5])} ...; {data_set.name!r} has "
            f"{', '.join(data_set.labels[:5])} ..."
        )
    model: Sequential = nb.load(options.resume, options.backend)
    model.seed = options.seed
    if options.freeze_base:
        model.freeze()
        _unfreeze_heads(model)
    if options.whiten:
        model.freeze("0.weight")
    return model


def _unfreeze_heads(model: Sequential) -> None:
    """Let the last layer with weights be trained, and that of each auxiliary head."""
    names = [name.rpartition(".")[0] for name, _ in model.named_parameters()]
    heads = [place for place, layer in model.named_layers() if isinstance(layer, AuxiliaryHead)]
    for begin in ("", *(f"{place}." for place in heads)):
        model.unfreeze([name for name in names if f"{name}.".startswith(begin)][-1])
