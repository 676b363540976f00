import copy

import numpy as np
import pytest

import nbconv as nb

rng = np.random.default_rng(5)
X = rng.standard_normal((24, 2, 8, 8)).astype(np.float32)
Y = rng.integers(0, 3, 24)


def network(backend="reference", seed=0):
    """With batch normalisation, dropout, layers in layers, and more than ten layers."""
    return nb.Sequential(
        *(nb.Conv2d(2, 4, 3, padding=1, bias=False), nb.BatchNorm2d(4), nb.ReLU()),
        nb.Residual(nb.Sequential(nb.Conv2d(4, 4, 3, padding=1), nb.BatchNorm2d(4))),
        *(nb.MaxPool2d(2), nb.Dropout(0.5), nb.Conv2d(4, 3, 3), nb.ReLU(), nb.MaxPool2d(2), nb.Flatten()),
        *(nb.Dense(3, 5), nb.ReLU(), nb.Dense(5, 3)),
        backend=backend,
        seed=seed,
    )


def frozen_names(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def step(model, lr=0.1):
    optimizer = nb.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0.1)
    y, backprop = model.forward(X, training=True, input_grad=False)
    backprop(nb.CrossEntropyLoss(backend=model.backend)(y, Y)[1])
    optimizer.step()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_frozen_base_runs_as_in_evaluation_and_stays_as_it_is(backend):
    model = network(backend)
    step(model)  # running statistics that are not those of the start
    before = model.state_dict()
    expected = model[:10].forward(X)[0]
    model.freeze(slice(0, 10))
    np.testing.assert_array_equal(model[:10].forward(X, training=True)[0], expected)
    step(model)
    after = model.state_dict()
    for key in before:
        same = np.array_equal(before[key], after[key])
        assert same == (not key.startswith(("10.", "12."))), key


def test_frozen_parameters_get_no_gradient_and_no_work():
    model = network().freeze(slice(0, 10))
    calls = []
    first = model[0].forward
    model[0].forward = lambda *args, **kwargs: (
        first(*args, **kwargs)[0],
        lambda dy: calls.append(dy),
    )
    step(model)
    assert calls == []
    assert all(p.grad is None for p in model[:10].parameters())
    assert all(p.grad is not None for p in model[10:].parameters())


def test_a_gradient_from_before_freezing_moves_nothing():
    model = network()
    y, backprop = model.forward(X, training=True)
    backprop(np.ones_like(y))
    model.freeze("0")
    before = model.state_dict()["0.weight"]
    nb.SGD(model.parameters(), lr=1.0).step()
    np.testing.assert_array_equal(model.state_dict()["0.weight"], before)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (("1",), {"1.weight", "1.bias"}),  # and neither 10 nor 12
        (("3.body.0",), {"3.body.0.weight", "3.body.0.bias"}),
        (("3",), {f"3.body.{layer}.{name}" for layer in (0, 1) for name in ("weight", "bias")}),
        (("10.weight",), {"10.weight"}),
        ((-1,), {"12.weight", "12.bias"}),
        ((0, slice(6, 8), "10.bias"), {"0.weight", "6.weight", "6.bias", "10.bias"}),
    ],
)
def test_what_a_choice_freezes(choice, expected):
    model = network().freeze(*choice)
    assert frozen_names(model) == expected
    model.unfreeze(*choice)
    assert frozen_names(model) == set()
    assert not any(layer.frozen for _, layer in model.named_layers())


def test_freezing_a_single_parameter_leaves_the_layer_in_training():
    model = network().freeze("1.weight", "1.bias")
    before = model[1].running_mean.copy()
    step(model)
    assert not np.array_equal(model[1].running_mean, before)


def test_all_is_frozen_by_default_and_a_part_can_be_freed():
    model = network().freeze().unfreeze("12")
    assert frozen_names(model) == set(model.state_dict()) - {"12.weight", "12.bias"} - {
        f"{layer}.{name}" for layer in ("1", "3.body.1") for name in ("running_mean", "running_var")
    }
    assert copy.deepcopy(model)[1].frozen


@pytest.mark.parametrize("choice", ["13", "3.bod", "", "0.weights", 13, slice(20, 30)])
def test_a_choice_that_means_nothing_freezes_nothing(choice):
    model = network()
    if choice == "":
        assert frozen_names(model.freeze("")) == {name for name, _ in model.named_parameters()}
        return
    with pytest.raises(nb.LayerError, match=r"no layer|none of the 13 layers"):
        model.freeze(0, choice)
    assert frozen_names(model) == set()
    assert not model[0].frozen


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_training_a_head_on_features_is_training_it_on_the_frozen_base(backend):
    inside, outside = network(backend), network(backend)
    losses = []
    for model in (inside, outside):
        model.freeze(slice(0, 10)).replace_head(3, seed=7)
    for model, trained, x in (
        (inside, inside, X),
        (outside, outside.split()[1], nb.transfer.features(outside, X)),
    ):
        optimizer = nb.SGD(model.parameters(), lr=0.1, momentum=0.9)
        fit = nb.Trainer(trained, nb.CrossEntropyLoss(), optimizer).fit
        losses.append(fit(x, Y, epochs=3, batch_size=8, seed=1, verbose=False)["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    for key, value in inside.state_dict().items():
        np.testing.assert_allclose(outside.state_dict()[key], value, rtol=1e-5, atol=1e-7, err_msg=key)


def test_the_base_ends_where_training_begins_to_matter():
    model = network()
    assert len(model.split()[0]) == 0
    with pytest.raises(nb.LayerError, match="freeze the base"):
        nb.transfer.features(model, X)
    assert len(model.freeze(slice(0, 4)).split()[0]) == 5  # the pool as well, but no dropout
    assert len(model.freeze(slice(0, 6)).split()[0]) == 6
    model.insert(0, nb.preprocess.ChannelMean.fit(X))
    assert len(model.split()[0]) == 7  # preprocessing changes nothing either, though it is not frozen
    del model[0]
    base, head = model.split(9)
    np.testing.assert_array_equal(head(base(X)), model(X))
    np.testing.assert_array_equal(nb.transfer.features(model, X, 9, batch_size=7), base(X))
    assert base[0] is model[0]


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "googlenet", "densenet121", "mobilenet_v2"])
def test_models_get_a_head_for_other_classes(name):
    model = nb.models.get(name, small=True)(num_classes=10, in_channels=1, seed=3)
    before = dict(model.named_parameters())
    model.freeze().replace_head(4)
    assert model.output_shape((2, 1, 32, 32)) == (2, 4)
    changed = {key for key, parameter in model.named_parameters() if before[key] is not parameter}
    assert len({key.rpartition(".")[0] for key in changed}) == 1
    assert {key for key, p in model.named_parameters() if p.requires_grad} == changed


def test_auxiliary_heads_are_replaced_too():
    def head():
        return nb.models.AuxiliaryHead(nb.Sequential(nb.Flatten(), nb.Dense(128, 7)))

    model = nb.models.DeeplySupervised(nb.ReLU(), head(), nb.Flatten(), nb.Dense(128, 7), seed=0)
    model.freeze().replace_head(3)
    outputs, _ = model.forward(X, training=True)
    assert [y.shape for y in outputs] == [(24, 3), (24, 3)]
    assert frozen_names(model) == set()


def test_the_new_head_is_drawn_as_the_old_one_was():
    def model(seed=None):
        zero = nb.initializers.constant(0.25)
        return nb.Sequential(nb.Conv2d(2, 6, 1, stride=2, bias_init=zero), nb.GlobalAvgPool2d(), seed=seed)

    first = model(1).replace_head(9)[0]
    assert isinstance(first, nb.Conv2d)
    assert (first.stride, first.weight.shape) == ((2, 2), (9, 2, 1, 1))
    assert (first.bias.data == 0.25).all()
    np.testing.assert_array_equal(first.weight.data, model(1).replace_head(9)[0].weight.data)
    assert not np.array_equal(first.weight.data, model(2).replace_head(9)[0].weight.data)
    np.testing.assert_array_equal(first.weight.data, model().replace_head(9, seed=1)[0].weight.data)


def test_a_head_that_cannot_be_replaced_is_named():
    with pytest.raises(nb.LayerError, match=r"BatchNorm2d at '1'"):
        nb.Sequential(nb.Conv2d(2, 3, 3), nb.BatchNorm2d(3)).replace_head(4)
    with pytest.raises(nb.LayerError, match="put a new head in its place by hand"):
        nb.Sequential(nb.ReLU()).replace_head(4)
    with pytest.raises(nb.LayerError, match="by hand"):
        nb.Sequential(nb.Residual(nb.Dense(3, 3))).replace_head(4)


def names_of(model, groups):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[names[id(parameter)] for parameter in group["params"]] for group in groups]


def test_groups_go_from_the_input_to_the_head():
    model = network()
    groups = nb.layer_groups(model, [0.001, 0.01, 0.1])
    assert [group["lr"] for group in groups] == [0.001, 0.01, 0.1]
    assert names_of(model, groups) == [
        [
            "0.weight",
            "1.weight",
            "1.bias",
            *(f"3.body.{n}" for n in ("0.weight", "0.bias", "1.weight", "1.bias")),
        ],
        ["6.weight", "6.bias", "10.weight", "10.bias"],
        ["12.weight", "12.bias"],
    ]
    assert names_of(model, nb.layer_groups(model, [1])) == [[name for name, _ in model.named_parameters()]]


def test_layers_of_layers_are_opened_where_there_are_too_few():
    model = nb.Sequential(nb.Sequential(nb.Dense(2, 2), nb.ReLU(), nb.Dense(2, 2)), nb.Dense(2, 2))
    three = [["0.0.weight", "0.0.bias"], ["0.2.weight", "0.2.bias"], ["1.weight", "1.bias"]]
    assert names_of(model, nb.layer_groups(model, [1, 2, 3])) == three
    assert len(nb.layer_groups(nb.Dense(2, 2), [1])) == 1
    with pytest.raises(ValueError, match="4 learning rates, but 3 layers"):
        nb.layer_groups(model, [1, 2, 3, 4])
    with pytest.raises(ValueError, match="at least one"):
        nb.layer_groups(model, [])


def test_shared_parameters_are_in_one_group():
    layer = nb.Dense(2, 2)
    groups = nb.layer_groups(nb.Sequential(layer, nb.Dense(2, 2), layer, nb.Dense(2, 2)), [1, 2, 3])
    nb.SGD(groups, lr=1)  # which takes no parameter twice
    assert sum(len(group["params"]) for group in groups) == 6


def test_every_group_steps_at_its_rate():
    model = network()
    optimizer = nb.SGD(nb.layer_groups(model, [0.001, 0.01, 0.1]), lr=7)
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    y, backprop = model.forward(X, training=True)
    backprop(nb.CrossEntropyLoss(backend="reference")(y, Y)[1])
    optimizer.step()
    rates = {0: 0.001, 1: 0.001, 3: 0.001, 6: 0.01, 10: 0.01, 12: 0.1}
    for name, p in model.named_parameters():
        lr = rates[int(name.partition(".")[0])]
        np.testing.assert_allclose(before[name] - p.data, lr * p.grad, rtol=1e-3, atol=1e-7)
