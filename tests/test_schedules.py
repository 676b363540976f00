import math

import numpy as np
import pytest

import nbconv as nb
from nbconv import schedules

STEPS = 25


def parameter():
    made = nb.Parameter((2,), nb.initializers.zeros())
    made.data = [1.0, 2.0]
    return made


def optimizer(rule=nb.SGD, **settings):
    return rule([{"params": [parameter()], "lr": 0.1}, {"params": [parameter()], "lr": 0.02}], **settings)


def rates_of(schedule, steps=STEPS):
    """The rates of both groups before each step."""
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr())
        schedule.step()
    return np.array(rates)


CLOSED_FORMS = {
    "StepLR": ({"step_size": 4, "gamma": 0.5}, lambda t: 0.5 ** (t // 4)),
    "MultiStepLR": ({"milestones": [9, 3]}, lambda t: 0.1 ** ((t >= 3) + (t >= 9))),
    "ExponentialLR": ({"gamma": 0.9}, lambda t: 0.9**t),
    "CosineAnnealingLR": ({"T_max": 10}, lambda t: (1 + math.cos(math.pi * t / 10)) / 2),
    "LinearLR": ({"start_factor": 0.2, "total_iters": 4}, lambda t: 0.2 + 0.8 * min(t, 4) / 4),
    "LambdaLR": ({"lr_lambda": lambda t: 1 / (1 + t)}, lambda t: 1 / (1 + t)),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_rates_are_the_formula(name):
    settings, factor = CLOSED_FORMS[name]
    rates = rates_of(getattr(schedules, name)(optimizer(), **settings))
    np.testing.assert_allclose(rates, [[0.1 * factor(t), 0.02 * factor(t)] for t in range(STEPS)], atol=1e-17)


def pair(name, settings, rule="SGD", **arguments):
    """Our schedule and PyTorch's, each on an optimiser with the same groups."""
    torch = pytest.importorskip("torch")
    ours = optimizer(getattr(nb, rule), **arguments)
    tensors = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr} for lr in (0.1, 0.02)]
    theirs = getattr(torch.optim, rule)(tensors, **arguments)
    return (
        getattr(schedules, name)(ours, **settings),
        getattr(torch.optim.lr_scheduler, name)(theirs, **settings),
        theirs,
    )


PYTORCHS = [
    *((name, settings) for name, (settings, _) in CLOSED_FORMS.items()),
    ("CosineAnnealingLR", {"T_max": 8, "eta_min": 0.005}),
    ("LinearLR", {"end_factor": 0.5}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": STEPS}),
    ("OneCycleLR", {"max_lr": [0.5, 0.1], "epochs": 5, "steps_per_epoch": 5, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30, "three_phase": True, "pct_start": 0.25}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 40, "base_momentum": 0.7, "div_factor": 5}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": STEPS, "cycle_momentum": False, "final_div_factor": 10}),
]


@pytest.mark.parametrize(("name", "settings"), PYTORCHS)
def test_rates_are_pytorchs(name, settings):
    ours, theirs, their_optimizer = pair(name, settings, momentum=0.9)
    for _ in range(STEPS):
        np.testing.assert_allclose(ours.get_last_lr(), theirs.get_last_lr(), rtol=1e-12, atol=1e-17)
        for group, other in zip(ours.optimizer.param_groups, their_optimizer.param_groups, strict=True):
            assert group["momentum"] == pytest.approx(other["momentum"], rel=1e-12)
        their_optimizer.step()
        theirs.step()
        ours.step()


def test_one_cycle_moves_adams_first_beta():
    ours, theirs, their_optimizer = pair("OneCycleLR", {"max_lr": 0.5, "total_steps": STEPS}, "Adam")
    for _ in range(STEPS):
        betas = ours.optimizer.param_groups[1]["betas"]
        np.testing.assert_allclose(betas, their_optimizer.param_groups[1]["betas"], rtol=1e-12)
        their_optimizer.step()
        theirs.step()
        ours.step()


def test_a_warm_up_and_what_follows_is_pytorchs():
    torch = pytest.importorskip("torch")
    ours = optimizer()
    warmup = schedules.LinearLR(ours, 0.1, total_iters=5)
    both = schedules.SequentialLR(
        ours,
        [warmup, schedules.CosineAnnealingLR(ours, 10), schedules.ExponentialLR(ours, 0.5)],
        milestones=[5, 15],
    )
    tensors = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr} for lr in (0.1, 0.02)]
    other = torch.optim.SGD(tensors)
    kinds = torch.optim.lr_scheduler
    parts = [
        kinds.LinearLR(other, 0.1, total_iters=5),
        kinds.CosineAnnealingLR(other, 10),
        kinds.ExponentialLR(other, 0.5),
    ]
    theirs = kinds.SequentialLR(other, parts, milestones=[5, 15])
    expected = []
    for _ in range(20):
        expected.append([group["lr"] for group in other.param_groups])
        other.step()
        theirs.step()
    np.testing.assert_allclose(rates_of(both, 20), expected, rtol=1e-12, atol=1e-17)


def test_a_warm_up_by_hand():
    ours = optimizer()
    parts = [schedules.LinearLR(ours, 0.5, total_iters=2), schedules.StepLR(ours, 1, 0.1)]
    both = schedules.SequentialLR(ours, parts, milestones=[2])
    np.testing.assert_allclose(rates_of(both, 5)[:, 0], [0.05, 0.075, 0.1, 0.01, 0.001])


MEASURED = [
    1.0,
    0.9,
    0.95,
    0.9,
    0.91,
    0.5,
    0.5,
    0.49999,
    0.6,
    0.7,
    float("nan"),
    0.8,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
]


@pytest.mark.parametrize(
    "settings",
    [
        {"patience": 1},
        {"patience": 0, "factor": 0.5, "cooldown": 2},
        {"patience": 1, "threshold": 0.2, "threshold_mode": "abs"},
        {"patience": 0, "min_lr": 0.01},
        {"mode": "max", "patience": 2, "threshold": 0.01},
        {"mode": "max", "patience": 1, "threshold_mode": "abs"},
    ],
)
def test_plateaus_are_pytorchs(settings):
    ours, theirs, their_optimizer = pair("ReduceLROnPlateau", settings)
    for value in MEASURED:
        their_optimizer.step()
        theirs.step(value)
        ours.step(value)
        expected = [group["lr"] for group in their_optimizer.param_groups]
        np.testing.assert_allclose(ours.get_last_lr(), expected, rtol=1e-12)
    assert ours.num_bad_epochs == theirs.num_bad_epochs


class Record(nb.Callback):
    """Notes the rate at each batch."""

    def __init__(self):
        self.rates = []

    def on_step_begin(self, state):
        self.rates.append(state.optimizer.param_groups[0]["lr"])


def fit(make, epochs=4, accuracies=None, **arguments):
    model = nb.Sequential(nb.Dense(5, 3), backend="reference", seed=0)
    rule = nb.SGD(model.parameters(), lr=1.0)
    record = Record()
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)

    class Pretend(nb.Callback):
        def on_epoch_end(self, state):
            if accuracies is not None:
                state.logs["val_accuracy"] = accuracies[state.epoch]

    history = nb.Trainer(model, nb.CrossEntropyLoss(), rule).fit(
        x,
        np.arange(40) % 3,
        epochs=epochs,
        batch_size=10,
        callbacks=[Pretend(), record, make(rule)],
        verbose=False,
        **arguments,
    )
    return record.rates, history


def test_a_schedule_steps_by_itself():
    rates, history = fit(lambda rule: schedules.ExponentialLR(rule, 0.5))
    assert rates == [0.5 ** (i // 4) for i in range(16)]
    assert history["lr"] == [1.0, 0.5, 0.25, 0.125]
    rates, _ = fit(lambda rule: schedules.ExponentialLR(rule, 0.5, per="step"))
    assert rates == [0.5**i for i in range(16)]
    rates, _ = fit(lambda rule: schedules.ExponentialLR(rule, 0.5, per="step"), accumulate=2)
    assert rates == [0.5**i for i in range(8)]


def test_alexnets_rule_divides_by_ten_when_accuracy_stops_improving():
    """STOR566, lecture fact T6: 0.01 divided by 10 when validation accuracy stops improving."""
    accuracies = [0.5, 0.6, 0.6, 0.6, 0.7, 0.7, 0.7, 0.7]
    _, history = fit(
        lambda rule: schedules.ReduceLROnPlateau(rule, "max", patience=1), epochs=8, accuracies=accuracies
    )
    np.testing.assert_allclose(history["lr"], [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01])


def test_a_schedule_goes_on_where_it_was():
    first, second = optimizer(), optimizer()
    schedule = schedules.CosineAnnealingLR(first, 10)
    other = schedules.CosineAnnealingLR(second, 10)
    rates_of(schedule, 4)
    other.load_state_dict(schedule.state_dict())
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(rates_of(other, 5), rates_of(schedule, 5))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: schedules.StepLR(o, 0), ValueError, "step_size must be at least 1, got 0"),
        (lambda o: schedules.StepLR(o, 1, per="year"), ValueError, 'per must be "epoch" or "step"'),
        (lambda o: schedules.StepLR([1], 1), TypeError, "expected an optimizer, got list"),
        (lambda o: schedules.CosineAnnealingLR(o, 0), ValueError, "T_max must be at least 1"),
        (lambda o: schedules.LinearLR(o, 0.0), ValueError, r"factors must be in \[0, 1\], got 0.0"),
        (lambda o: schedules.LinearLR(o, total_iters=0), ValueError, "total_iters must be at least 1"),
        (lambda o: schedules.OneCycleLR(o, 0.1), ValueError, "needs total_steps, or epochs and"),
        (lambda o: schedules.OneCycleLR(o, 0.1, 0), ValueError, "at least one step, got 0"),
        (lambda o: schedules.OneCycleLR(o, [0.1], 9), ValueError, "2 groups, but 1 of max_lr"),
        (
            lambda o: schedules.OneCycleLR(o, 0.1, 9, pct_start=2),
            ValueError,
            r"pct_start must be in \[0, 1\]",
        ),
        (lambda o: schedules.OneCycleLR(o, 0.1, 9, anneal_strategy="x"), ValueError, "got 'x'"),
        (lambda o: schedules.ReduceLROnPlateau(o, factor=1.0), ValueError, r"factor must be in \[0, 1\)"),
        (lambda o: schedules.ReduceLROnPlateau(o, "best"), ValueError, 'mode must be "min" or "max"'),
        (lambda o: schedules.ReduceLROnPlateau(o).step(), ValueError, "needs the measurement"),
        (
            lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 1)], [3]),
            ValueError,
            "1 schedules need 0 rising milestones",
        ),
        (
            lambda o: schedules.SequentialLR(
                o, [schedules.ReduceLROnPlateau(o), schedules.StepLR(o, 1)], [3]
            ),
            TypeError,
            "ReduceLROnPlateau is no formula of the step",
        ),
        (
            lambda o: schedules.SequentialLR(
                o, [schedules.StepLR(o, 1), schedules.StepLR(optimizer(), 1)], [3]
            ),
            ValueError,
            "different optimizers",
        ),
        (lambda o: rates_of(schedules.OneCycleLR(o, 0.1, 3), 4), ValueError, "step 4 of a cycle of 3"),
        (
            lambda o: schedules.OneCycleLR(nb.Adagrad([parameter()]), 0.1, 3),
            ValueError,
            "Adagrad has no momentum to cycle",
        ),
        (lambda o: fit(lambda rule: schedules.StepLR(o, 1)), ValueError, "made for another optimizer"),
        (lambda o: fit(schedules.ReduceLROnPlateau), ValueError, "no 'val_loss' among .*validation data"),
    ],
)
def test_what_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make(optimizer())
