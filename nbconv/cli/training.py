"""The options of ``nbconv train`` that say how to train, and what is made of them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbconv import callbacks, optim, schedules, transfer
from nbconv.augment.recipes import RECIPES
from nbconv.callbacks import Callback
from nbconv.callbacks.checkpoint import literal
from nbconv.cli import transforms
from nbconv.cli.common import natural, positive
from nbconv.cli.recorded import Recorded
from nbconv.errors import NbconvError

if TYPE_CHECKING:
    from nbconv.optim import Optimizer
    from nbconv.sequential import Sequential

RATES = {"sgd": 0.03, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3, "adagrad": 0.01, "lion": 1e-4}
_RESUME = (
    "go on with the run in this checkpoint, and save it there; it decides on no other files, so data other "
    "than digits and what is to be written are given again; other options count from there on or are refused"
)
SCHEDULES = ("cosine", "constant", "step", "multistep", "exponential", "one-cycle", "plateau")


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options of the optimiser, its learning rate, and what goes with training."""
    rates = ", ".join(f"{name} {rate}" for name, rate in RATES.items())
    group = parser.add_argument_group("training")
    add = group.add_argument
    add("--epochs", type=positive, default=30, help="passes over the images (%(default)s)")
    add("--batch-size", type=positive, default=64, help="images in a batch (%(default)s)")
    add("--accumulate", type=positive, default=1, metavar="N", help="batches in a step (%(default)s)")
    add("--optimizer", choices=list(RATES), default="sgd", help="(%(default)s)")
    add("--lr", type=float, help=f"learning rate ({rates})")
    add("--momentum", type=float, default=0.9, help="of sgd and rmsprop (%(default)s)")
    add("--nesterov", action="store_true", help="let sgd look ahead by its momentum")
    add("--weight-decay", type=float, default=5e-4, help="(%(default)s)")
    add("--label-smoothing", type=float, default=0.0, metavar="SHARE", help="(%(default)s)")
    add("--clip-grad-norm", type=float, metavar="NORM", help="make longer gradients this long")
    add("--clip-grad-value", type=float, metavar="VALUE", help="cut each element of the gradients off here")
    add("--ema", type=float, metavar="DECAY", help="average the weights, keeping so much at each step")
    add(
        "--augment",
        type=transforms.checked,
        default="none",
        metavar="LIST",
        help=f"what is done to each batch (%(default)s): {', '.join(RECIPES)}, or transforms of nb.augment, "
        "in quotes: 'RandomCrop(padding=4), RandomHorizontalFlip, Cutout(8)'",
    )

    group = parser.add_argument_group("transfer learning")
    add = group.add_argument
    add(
        "--weights",
        type=Path,
        metavar="FILE",
        help="begin with this saved model, in place of --model; for other classes it gets a new head",
    )
    add("--freeze-base", action="store_true", help="train the head of --weights alone")
    add(
        "--layer-lrs",
        type=_rates,
        metavar="A,B,...",
        help="learning rates by depth, earlier layers' first, in place of --lr",
    )

    group = parser.add_argument_group("learning rate")
    add = group.add_argument
    add(
        "--find-lr",
        action="store_true",
        help="do not train: try rising learning rates, and suggest one; --plot draws them",
    )
    add("--schedule", choices=SCHEDULES, default="cosine", help="(%(default)s)")
    add("--warmup", type=natural, default=0, metavar="EPOCHS", help="rise from a tenth first (%(default)s)")
    add("--step-size", type=positive, default=10, metavar="EPOCHS", help="of step (%(default)s)")
    add("--milestones", type=_numbers, default=[], metavar="A,B,...", help="epochs of multistep")
    add("--gamma", type=_factor, help="factor of step, multistep, plateau (0.1) and exponential (0.95)")
    add("--patience", type=natural, default=5, metavar="EPOCHS", help="of plateau (%(default)s)")

    group = parser.add_argument_group("stopping, saving and telling")
    add = group.add_argument
    add("--early-stopping", type=positive, metavar="EPOCHS", help="stop after so many without a better one")
    add(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="save the run here after every epoch (.safetensors); {epoch:03d}, {val_loss:.3f} and the like "
        "in the name become its numbers",
    )
    add("--checkpoint-every", type=positive, metavar="STEPS", help="... and after so many steps")
    add("--resume", type=Path, metavar="FILE", help=_RESUME)
    add("--config", type=Path, metavar="FILE", help="take options from a TOML file: their names, no dashes")
    add("--recipe", metavar="NAME", help="take options from a recipe: alexnet or airbench")
    add("--csv", type=Path, metavar="FILE", help="log every epoch as comma-separated values")
    add("--jsonl", type=Path, metavar="FILE", help="log every epoch as a line of JSON")
    add("--tensorboard", type=Path, metavar="DIR", help="log every epoch for TensorBoard")


def optimizer_of(model: Sequential, options: argparse.Namespace) -> Optimizer:
    """The optimiser asked for, of the parameters that are not frozen."""
    rate = RATES[options.optimizer] if options.lr is None else options.lr
    parameters = _parameters(model, options)
    decay = options.weight_decay
    match options.optimizer:
        case "sgd":
            momentum, nesterov = options.momentum, options.nesterov
            return optim.SGD(parameters, rate, momentum, weight_decay=decay, nesterov=nesterov)
        case "rmsprop":
            return optim.RMSprop(parameters, rate, momentum=options.momentum, weight_decay=decay)
    kinds: dict[str, Callable[..., Optimizer]]
    kinds = {"adam": optim.Adam, "adamw": optim.AdamW, "adagrad": optim.Adagrad, "lion": optim.Lion}
    return kinds[options.optimizer](parameters, rate, weight_decay=decay)


def _parameters(model: Sequential, options: argparse.Namespace) -> list[Any]:
    """What is to be trained, in groups if it shall learn at several rates."""
    if options.layer_lrs is None:
        return [parameter for parameter in model.parameters() if parameter.requires_grad]
    if options.lr is not None:
        raise NbconvError("--lr and --layer-lrs do not go together")
    groups = transfer.layer_groups(model, options.layer_lrs)
    for group in groups:
        group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]
    if not all(group["params"] for group in groups):
        raise NbconvError("--layer-lrs: a rate would be that of frozen layers alone")
    return groups


def schedule_of(optimizer: Optimizer, options: argparse.Namespace, examples: int) -> list[Callback]:
    """The schedule asked for; none for a constant rate.

    Raises:
        NbconvError: for options that do not go together.
    """
    kind, epochs, warmup = options.schedule, options.epochs, options.warmup
    if warmup and kind in ("one-cycle", "plateau"):
        raise NbconvError(f"--warmup does not go with --schedule {kind}")
    if warmup >= epochs:
        raise NbconvError(f"--warmup {warmup} leaves nothing of --epochs {epochs}")
    if kind == "multistep" and not options.milestones:
        raise NbconvError("--schedule multistep needs --milestones")
    gamma = options.gamma if options.gamma is not None else 0.95 if kind == "exponential" else 0.1
    schedule: schedules.Schedule
    match kind:
        case "one-cycle":
            batches = -(-examples // options.batch_size)
            steps = epochs * -(-batches // options.accumulate)
            peaks = [group["lr"] for group in optimizer.param_groups]
            return [schedules.OneCycleLR(optimizer, peaks, steps)]
        case "plateau":
            return [schedules.ReduceLROnPlateau(optimizer, "max", gamma, options.patience)]
        case "cosine":
            schedule = schedules.CosineAnnealingLR(optimizer, epochs - warmup)
        case "step":
            schedule = schedules.StepLR(optimizer, options.step_size, gamma)
        case "multistep":
            schedule = schedules.MultiStepLR(optimizer, options.milestones, gamma)
        case "exponential":
            schedule = schedules.ExponentialLR(optimizer, gamma)
        case _:
            schedule = schedules.LambdaLR(optimizer, lambda epoch: 1.0)
    if warmup:
        rise = schedules.LinearLR(optimizer, 0.1, total_iters=warmup)
        schedule = schedules.SequentialLR(optimizer, [rise, schedule], [warmup])
    return [schedule]


def callbacks_of(
    options: argparse.Namespace, record: Recorded
) -> tuple[list[Callback], callbacks.Checkpoint]:
    """The callbacks asked for, and the last of them, which saves the run when Ctrl-C stops it."""
    found: list[Callback] = []
    if options.clip_grad_norm is not None:
        found.append(callbacks.ClipGradNorm(options.clip_grad_norm))
    if options.clip_grad_value is not None:
        found.append(callbacks.ClipGradValue(options.clip_grad_value))
    if options.ema is not None:
        found.append(callbacks.EMA(options.ema))
    if options.early_stopping:
        patience = options.early_stopping
        found.append(callbacks.EarlyStopping("val_accuracy", patience=patience, restore_best_weights=True))
    for kind, path in (
        (callbacks.CSVLogger, options.csv),
        (callbacks.JSONLinesLogger, options.jsonl),
        (callbacks.TensorBoardLogger, options.tensorboard),
    ):
        if path is not None:
            found.append(kind(path))
    checkpoint = callbacks.Checkpoint(
        checkpoint_path(options) if options.checkpoint else literal(checkpoint_path(options)),
        every_epochs=1 if options.checkpoint else 0,
        every_steps=options.checkpoint_every or 0,
        extra={"arguments": options.arguments, **record.as_json()},
    )
    return [*found, checkpoint], checkpoint


def checkpoint_path(options: argparse.Namespace) -> Path:
    """Where the run is saved, at the latest when Ctrl-C stops it."""
    given: Path | None = options.checkpoint or options.resume
    if given is not None:
        return given
    output: Path | None = options.output
    return output.with_suffix(".checkpoint.safetensors") if output else Path("nbconv.checkpoint.safetensors")


def _numbers(text: str) -> list[int]:
    """Whole numbers between commas, for argparse."""
    try:
        return [positive(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers between commas, got {text!r}") from None


def _rates(text: str) -> list[float]:
    """Numbers between commas, for argparse."""
    try:
        rates = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        rates = []
    if not rates or not all(0 <= rate < math.inf for rate in rates):
        raise argparse.ArgumentTypeError(
            f"expected learning rates of at least 0 between commas, got {text!r}"
        )
    return rates


def _factor(text: str) -> float:
    """A factor that makes something smaller, for argparse."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a factor above 0 and at most 1, got {text}")
    return value
