"""The loop over epochs, batches and steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from nbconv import backends
from nbconv.callbacks.base import TrainingState
from nbconv.optim.clip import scale_gradients
from nbconv.training.batches import Augment, Batch, Source, augmented
from nbconv.training.evaluation import count_right, evaluate, placed, with_counts
from nbconv.training.means import Means, Measured
from nbconv.training.nonfinite import dropouts_of, explain, explain_late
from nbconv.training.recording import RecordedPasses, Results
from nbconv.typing import Array
from nbconv.upload import ahead

if TYPE_CHECKING:
    from nbconv.losses import Loss

Validation = Callable[[], Iterator[Batch]]
"""Gives the batches to validate on, each time it is called."""


class Loop:
    """Trains from where a state stands.

    Args:
        state: of the run.
        loss: of the batches.
        source: of the batches.
        augment: made to each training batch.
        accumulate: batches in a step.
        validation: what to validate on after each epoch.
        record: whether the passes of a step may be recorded, where that is safe.
    """

    def __init__(
        self,
        state: TrainingState,
        loss: Loss,
        source: Source,
        augment: Augment | None,
        accumulate: int,
        validation: Validation | None,
        record: bool = True,
    ) -> None:
        self._state = state
        self._loss = placed(loss, state.model.backend)
        self._data_loss = self._loss.data_loss
        self._source = source
        self._augment = augment
        self._accumulate = accumulate
        self._validation = validation
        self._dropouts = dropouts_of(state.model)
        self._in_step: list[Any] = []  # the loss's divisors for the batches in the step so far
        self._unit = 1  # what gradients within the step are multiples of
        self._share: Any = 1.0  # by which to multiply the current batch's
        self._first = 0  # of the epoch's batches that this run has trained on
        self._run = self._passes
        if record and accumulate == 1:
            self._run = RecordedPasses(state.model, self._loss, self._passes).run

    def run(self) -> None:
        """Train until the last epoch is over, or the run is stopped."""
        state = self._state
        for epoch in range(state.epoch, state.epochs):
            if state.stop or state.history.interrupted:
                break
            state.epoch, state.epoch_over = epoch, False
            self._train_epoch()
            if state.history.interrupted or state.done < state.batches:
                break
            self._end_epoch()

    def _train_epoch(self) -> None:
        """Train on the batches of the epoch that are not done."""
        state = self._state
        if not state.done:
            state.seen, state.seconds, state.logs, state.means = 0, 0.0, {}, Means()
            self._call("on_epoch_begin")
        if state.done < state.batches:
            before, start = state.seconds, time.perf_counter()
            for number, batch in enumerate(self._batches(), state.done):
                state.batch = number
                self._train_batch(*batch)
                state.seconds = before + time.perf_counter() - start
                self._call("on_batch_end")
                self._check_losses()
                if (state.stop or state.history.interrupted) and state.stepped:
                    break
            if state.means.read():  # waits for the last batches, which were only asked for so far
                state.seconds = before + time.perf_counter() - start
                self._check_losses()
        state.logs["lr"] = state.optimizer.param_groups[0]["lr"]
        state.logs["seconds"] = state.seconds
        state.logs["images_per_second"] = state.seen / state.seconds if state.seconds else 0.0

    def _batches(self) -> Iterator[tuple[Array, Array, Any, Any]]:
        state = self._state
        batches = self._source.batches(state.epoch, state.done)
        if self._augment is not None:
            batches = augmented(batches, self._augment, state.seed, state.epoch, state.done)
        self._first = state.done
        return ahead(with_counts(self._data_loss, batches), state.model)

    def _check_losses(self) -> None:
        """Raise if one of the losses that have been read was NaN or infinite."""
        state = self._state
        if state.means.strange is None:
            return
        number, loss = state.means.strange
        batch = self._first + number + 1
        where = f"in epoch {state.epoch + 1}, batch {batch}"
        raise explain_late(state.model, f"the loss is {loss} {where}, noticed after batch {state.done}")

    def _train_batch(self, inputs: Array, targets: Array, divisor: Any, counted: Any) -> None:
        state, in_step = self._state, self._in_step
        state.at_rest = False
        if not in_step:
            state.optimizer.zero_grad()
            self._unit = max(targets.size, 1)
        in_step.append(divisor)
        state.stepped = len(in_step) == self._accumulate or state.batch + 1 == state.batches
        self._weigh(divisor)
        loss, penalty, right = self._run(inputs, targets)
        if state.stepped:
            self._step()
        state.seen += len(inputs)
        state.done = state.batch + 1
        state.loss = measured = Measured(loss, divisor, penalty, right, counted)
        state.means.add(measured)
        state.logs = None
        state.at_rest = state.stepped

    def _weigh(self, divisor: Any) -> None:
        """Let the gradients of a step's batches add up to that of one large batch.

        A batch's gradient is a sum over its divisor. What the sum over the whole step has to be divided by is
        not known before its last batch; until then it is divided by as many as the first batch has targets.
        """
        self._share = 1.0
        if self._accumulate == 1 or divisor is None:
            return
        if not self._state.stepped:
            self._share = divisor / self._unit
            return
        whole = sum(self._in_step)
        whole = whole + (whole == 0)  # where nothing counts, the gradients are zero
        groups = self._state.optimizer.param_groups
        scale_gradients((p for group in groups for p in group["params"]), self._unit / whole)
        self._share = divisor / whole

    def _passes(self, inputs: Array, targets: Array) -> Results:
        """Forward, loss and backward: the loss, the penalty on weights, and how many labels were right."""
        state = self._state
        offsets = [dropout.offset for dropout in self._dropouts]
        outputs, backprop = state.model.forward(inputs, training=True, input_grad=False)
        with backends.deferred(state.model.backend):
            loss, gradient = self._data_loss(outputs, targets)
            penalty = self._loss.penalty()
        if not backends.is_array(loss):
            self._check_loss(loss + penalty, inputs, offsets)
        right = count_right(self._data_loss, outputs, targets)
        del outputs
        if state.stepped:
            self._loss.add_penalty_gradient()
        backprop(_scaled(gradient, self._share))
        return loss, penalty, right

    def _check_loss(self, loss: float, inputs: Array, offsets: list[int]) -> None:
        """Raise if the loss is NaN or infinite; a mean over nothing may be."""
        state, divisor = self._state, self._in_step[-1]
        if math.isfinite(loss) or (divisor is not None and not divisor):
            return
        where = f"in epoch {state.epoch + 1}, batch {state.batch + 1} (step {state.step + 1})"
        raise explain(state.model, inputs, f"the loss is {loss} {where}", offsets)

    def _step(self) -> None:
        """Update the parameters by the gradients of the step."""
        state = self._state
        self._call("on_step_begin")
        state.optimizer.step()
        state.step += 1
        self._in_step.clear()

    def _end_epoch(self) -> None:
        """Validate, and enter the epoch in the history."""
        state = self._state
        self._call("on_epoch_trained")
        if self._validation is not None:
            validated = evaluate(state.model, self._loss, self._validation(), state, self._validation)
            if state.history.interrupted:
                return
            state.logs.update({f"val_{name}": value for name, value in validated.items()})
        state.history.append(state.logs)
        state.epoch_over, state.done = True, 0
        self._call("on_epoch_end")

    def _call(self, moment: str) -> None:
        state = self._state
        rest, state.at_rest = state.at_rest, False
        for callback in state.callbacks:
            getattr(callback, moment)(state)
        state.at_rest = rest


def _scaled(gradient: Any, factor: Any) -> Any:
    """A gradient, or that of each of several outputs, times a factor."""
    if isinstance(gradient, tuple):
        return tuple(_scaled(part, factor) for part in gradient)
    if not backends.is_array(factor) and factor == 1:
        return gradient
    return gradient * backends.scalar_of(factor, gradient.dtype)
