"""Train a network, report its accuracy on held-out images and save it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbconv import files, models, plot, preprocess, report
from nbconv.cli import common, feeding, finding, resuming, start, training, transforms
from nbconv.cli.recorded import Recorded
from nbconv.errors import NbconvError
from nbconv.preprocess.moments import Data
from nbconv.terminal import say

if TYPE_CHECKING:
    from nbconv.layers import Layer

_PREPROCESSING: dict[str, Callable[[Data], Layer]] = {
    "mean-image": preprocess.MeanImage.fit,
    "channel-mean": preprocess.ChannelMean.fit,
    "standardize": preprocess.Standardize.fit,
    "zca": preprocess.ZCA.fit,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    common.add_data(parser)
    names = models.names()
    parser.add_argument(
        "--model",
        choices=names,
        default="lenet5",
        metavar="NAME",
        help=f"the network (%(default)s): {', '.join(names)}",
    )
    parser.add_argument(
        "--preprocess",
        choices=["none", *_PREPROCESSING],
        default="none",
        help="what is measured on the training images and put in front of the network (%(default)s)",
    )
    parser.add_argument(
        "--whiten", action="store_true", help="let the first convolution whiten patches, and freeze it"
    )
    common.add_backend(parser)
    parser.add_argument(
        "--seed", type=common.natural, default=0, help="decides all that is random (%(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="save the trained model here (.safetensors)"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the learning curves here (.png, .svg, .pdf)"
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="save model, history and settings here, for nbconv report"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    training.add_training(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train, and return what was measured."""
    import nbconv as nb

    begin = time.perf_counter()
    _check_options(options)
    data_set = common.data_set(options)
    model = start.model_of(options, data_set)
    size = common.input_size(model, data_set)
    train, test = (feeding.held(part, options.workers) for part in data_set.load(size))
    if options.preprocess != "none" and not options.resume:
        model.insert(0, _PREPROCESSING[options.preprocess](feeding.to_measure(train, options.workers)))
    if options.whiten and not options.resume:
        models.whiten(model, feeding.some(train, options.workers).x)
    optimizer = training.optimizer_of(model, options)
    loss = nb.CrossEntropyLoss(label_smoothing=options.label_smoothing)
    trainer = nb.Trainer(model, loss, optimizer)
    augment = transforms.parsed(options.augment, data_set.classes)
    fed = feeding.to_train_on(train, options, augment)
    images, held_out = feeding.count(train), feeding.count(test)
    if not options.quiet:
        say(
            f"{start.name_of(options)} on {options.data}: {images:,} images of {size} x {size} to train on, "
            f"{held_out:,} held out"
        )
    settings = {
        "command": "train",
        "data": options.data,
        "data_root": str(options.data_root or "data"),
        "size": size,
        "preprocess": options.preprocess,
        "model": start.name_of(options),
        "backend": options.backend,
        "seed": options.seed,
    }
    if options.find_lr:
        return {**settings, **finding.find(trainer, fed, options)}
    record = Recorded(
        data=options.data,
        data_root=settings["data_root"],
        size=size,
        resize=options.resize,
        channels=data_set.channels,
        classes=data_set.labels,
    )
    schedule = training.schedule_of(optimizer, options, images)
    extras, checkpoint = training.callbacks_of(options, record)
    history = trainer.fit(
        **fed,
        epochs=options.epochs,
        validation_data=feeding.to_validate_on(test, options),
        accumulate=options.accumulate,
        seed=options.seed,
        callbacks=[*schedule, *extras],
        resume=options.resume,
        verbose=not options.quiet,
    )
    if options.output:  # before the evaluation, which may be interrupted
        model.save(options.output, record.as_json())
        say(f"wrote {options.output}")
    measured = trainer.evaluate(*feeding.batches(test, options.batch_size, options.workers))
    result = {
        **settings,
        "epochs": history.epochs,
        "interrupted": history.interrupted,
        "test_accuracy": measured["accuracy"],
        "test_loss": measured["loss"],
        "train_accuracy": history.last().get("accuracy"),
        "train_loss": history.last().get("loss"),
        "train_seconds": sum(history["seconds"]) if history.epochs else 0.0,
        "images_per_second": max(history["images_per_second"]) if history.epochs else None,
    }
    if history.interrupted:
        say(f"stopped after {history.epochs} of {options.epochs} epochs")
        if checkpoint.saved:
            given = resuming.texts(options.arguments, add_arguments)
            say(f"go on with: {resuming.how_to_go_on(checkpoint.saved, given)}")
    say(f"held-out accuracy {common.percent(measured['accuracy'])} of {held_out:,} images")
    result["seconds"] = time.perf_counter() - begin
    if options.run:
        report.save_run(options.run, model, history, {**result, **record.as_json()}, record.as_json())
        say(f"wrote {options.run}")
    if options.plot and history.epochs:  # last, as all else of the run can be told without it
        plot.learning_curves(history, options.plot)
        say(f"wrote {options.plot}")
    return result


def _check_options(options: argparse.Namespace) -> None:
    """Find out before training what is wrong, or would keep its results from being written."""
    if options.find_lr and options.resume:
        raise NbconvError("--find-lr and --resume do not go together")
    for path in (options.output, options.plot):
        if path is not None:
            files.check_writable(path)
    if options.plot:
        plot.check_path(options.plot)
    if options.run and not options.find_lr:
        options.run.mkdir(parents=True, exist_ok=True)
