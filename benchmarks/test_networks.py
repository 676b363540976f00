"""The networks of ``nbconv bench``, inference and training step, tracked from version to version."""

import pytest

from nbconv.bench.cases import CASES
from nbconv.bench.peers import own


def _each(what):
    return [
        pytest.param(case, batch, id=f"{case.name}-{batch}")
        for case in CASES
        for batch in getattr(case, what)
    ]


@pytest.mark.parametrize(("case", "batch"), _each("inference"))
def test_inference(benchmark, case, batch):
    benchmark.group = "inference"
    run = own.inference(case.model(), case.images(batch))
    benchmark.pedantic(run, rounds=7, warmup_rounds=2)


@pytest.mark.parametrize(("case", "batch"), _each("training"))
def test_training_step(benchmark, case, batch):
    benchmark.group = "training step"
    step = own.training(case.model(), case.images(batch), case.targets(batch))
    benchmark.pedantic(step.run, rounds=5, warmup_rounds=2)
