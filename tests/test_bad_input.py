"""Bad input gets an exception that says what was given, what is needed and where."""

import re

import numpy as np
import pytest

import nbconv as nb


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def model():
    return nb.Sequential(
        nb.Conv2d(3, 6, 3),
        nb.BatchNorm2d(6),
        nb.ReLU(),
        nb.Conv2d(6, 16, 5),
        nb.MaxPool2d(2),
        nb.Flatten(),
        nb.Dense(16, 10),
        backend="reference",
    )


GOOD = (4, 3, 8, 8)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 8, 8), r"Conv2d \(layer 0\): expected an input of shape \(N, 3, H, W\), got \(3, 8, 8\)"),
        (
            (4, 1, 8, 8),
            r"Conv2d \(layer 0\): expected 3 input channels, got 1 in an input of shape \(4, 1, 8, 8\)",
        ),
        (
            (4, 3, 2, 8),
            r"Conv2d \(layer 0\): kernel of size \(3, 3\) is larger than the padded input of size \(2, 8\)",
        ),
        (
            (4, 3, 6, 8),
            r"Conv2d \(layer 3\): kernel of size \(5, 5\) is larger than the padded input of size \(4, 6\)",
        ),
        (
            (4, 3, 7, 7),
            r"MaxPool2d \(layer 4\): kernel of size \(2, 2\) is larger than the padded input of size",
        ),
        (
            (4, 3, 10, 10),
            r"Dense \(layer 6\): expected 16 input features, got 64 in an input of shape \(4, 64\)",
        ),
    ],
)
def test_shapes_that_do_not_fit(shape, message):
    for call in (
        lambda: model()(array(*shape)),
        lambda: model().predict(array(*shape)),
        lambda: model().predict(array(*shape), check_finite=True),
        lambda: model().forward(array(*shape), training=True),
        lambda: model().output_shape(shape),
    ):
        with pytest.raises(nb.LayerError, match=message):
            call()
    with pytest.raises(nb.LayerError, match=message.partition(":")[0]):
        model().summary(shape[1:])


def test_the_designs_example():
    layers = [nb.ReLU(), nb.ReLU(), nb.ReLU(), nb.Conv2d(16, 8, 3)]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        nb.Sequential(*layers, backend="reference")(array(128, 6, 14, 14))
    assert str(caught.value) == (
        "Conv2d (layer 3): expected 16 input channels, got 6 in an input of shape (128, 6, 14, 14)"
    )
    assert caught.value.layer == "Conv2d"
    assert caught.value.position == "3"


def test_the_place_in_nested_models():
    inner = nb.Sequential(nb.ReLU(), nb.Dense(3, 2))
    nested = nb.Sequential(nb.ReLU(), nb.Sequential(inner), backend="reference")
    message = r"Dense \(layer 1\.0\.1\): expected 3 input features, got 4"
    for call in (
        lambda: nested(array(2, 4)),
        lambda: nested.forward(array(2, 4)),
        lambda: nested.output_shape((2, 4)),
        lambda: nested.summary((4,)),
    ):
        with pytest.raises(nb.LayerError, match=message):
            call()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nb.Conv2d(4, 8, 3, groups=2), (1, 6, 5, 5), "expected 4 input channels in 2 groups, got 6"),
        (nb.Conv2d(4, 8, 3, dilation=3), (1, 4, 5, 5), r"larger than the padded input of size \(5, 5\)"),
        (nb.Dense(3, 2), (2, 3, 4, 4), r"expected an input of shape \(N, 3\).*is a Flatten\(\) missing\?"),
        (nb.Dense(3, 2), (3,), r"expected an input of shape \(N, 3\), got \(3,\)"),
        (nb.MaxPool2d(2), (2, 3), r"expected an input of shape \(N, C, H, W\), got shape \(2, 3\)"),
        (nb.AvgPool2d(4), (2, 3, 3, 3), "larger than the padded input"),
        (nb.AdaptiveAvgPool2d(1), (3, 4, 4), r"expected an input of shape \(N, C, H, W\)"),
        (nb.BatchNorm2d(3), (2, 4, 5, 5), "expected 3 input channels, got 4"),
        (nb.BatchNorm2d(3), (2, 3), r"expected an input of shape \(N, 3, H, W\), got \(2, 3\)"),
        (nb.Flatten(), (3,), r"expected an input of shape \(N, C, H, W\) or \(N, F\), got \(3,\)"),
        (nb.Softmax(dim=2), (3, 4), r"an input of shape \(3, 4\) has no axis 2"),
        (nb.LogSoftmax(dim=-3), (3, 4), r"an input of shape \(3, 4\) has no axis -3"),
        (
            nb.Conv2d(3, 4, 5, padding=4, padding_mode="reflect"),
            (1, 3, 4, 9),
            r'mode "reflect" fills at most 3 elements beside 4, got .* an input of shape \(1, 3, 4, 9\)',
        ),
        (
            nb.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
            (1, 2, 5, 5),
            r"expected 3 input channels, got 2 in an input of shape \(1, 2, 5, 5\)",
        ),
        (nb.ConvTranspose2d(4, 8, 3), (1, 6, 5, 5), "expected 4 input channels, got 6 in an input of shape"),
        (
            nb.ConvTranspose2d(4, 8, 3),
            (4, 5, 5),
            r"expected an input of shape \(N, 4, H, W\), got \(4, 5, 5\)",
        ),
        (nb.ConvTranspose2d(4, 8, 3, padding=2), (1, 4, 1, 9), "leaves nothing of the output"),
        (nb.GlobalAvgPool2d(), (2, 3), r"expected an input of shape \(N, C, H, W\), got shape \(2, 3\)"),
        (nb.Pad2d(5, "symmetric"), (2, 3, 4, 6), 'mode "symmetric" fills at most 4 elements beside 4'),
        (nb.Pad2d(1), (2, 3), r"expected an input of shape \(N, C, H, W\), got shape \(2, 3\)"),
        (nb.Upsample(scale_factor=0.2), (2, 3, 4, 6), r"output_size must be positive, got \(0, 1\)"),
        (nb.Upsample(3), (2, 3), r"expected an input of shape \(N, C, H, W\), got shape \(2, 3\)"),
        (nb.Maxout(3), (2, 4, 5, 5), "expected a multiple of 3 input channels, got 4 in an input of shape"),
        (nb.Maxout(), (2, 4, 5), r"expected an input of shape \(N, C, H, W\) or \(N, C\), got \(2, 4, 5\)"),
        (nb.Dropout2d(), (2, 4), r"expected an input of shape \(N, C, H, W\), got \(2, 4\)"),
        (nb.GroupNorm(2, 4), (2, 6, 5, 5), "expected 4 input channels, got 6 in an input of shape"),
        (nb.GroupNorm(2, 4), (2, 4), r"expected an input of shape \(N, 4, H, W\), got \(2, 4\)"),
        (nb.LayerNorm((4, 5)), (2, 5, 4), r"expected an input of shape \(N, \.\.\., 4, 5\), got \(2, 5, 4\)"),
        (nb.LayerNorm(4), (4,), r"expected an input of shape \(N, \.\.\., 4\), got \(4,\)"),
        (nb.LocalResponseNorm(5), (2, 4), r"expected an input of shape \(N, C, H, W\), got \(2, 4\)"),
        (nb.ContrastNorm(), (2, 4, 5), r"expected an input of shape \(N, C, H, W\), got \(2, 4, 5\)"),
        (nb.PReLU(3), (2, 4, 5, 5), "expected 3 input channels, got 4 in an input of shape"),
        (nb.PReLU(), (2,), r"expected an input of shape \(N, C, \.\.\.\), got \(2,\)"),
    ],
    ids=repr,
)
def test_layers_on_their_own(layer, shape, message):
    layer.to("reference")
    for call in (
        lambda: layer(array(*shape)),
        lambda: layer.forward(array(*shape)),
        lambda: layer.output_shape(shape),
    ):
        with pytest.raises(nb.LayerError, match=f"{type(layer).__name__}: .*{message}"):
            call()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_unpooling_wants_what_a_pooling_gave(backend):
    layer = nb.MaxUnpool2d(2).to(backend)
    x, indices = array(1, 2, 3, 3), np.zeros((1, 2, 3, 3), np.int32)
    for message, call in {
        "needs the indices of a MaxPool2d": lambda: layer(x),
        r"\(1, 2, 3, 2\)": lambda: layer(x, indices[..., :2]),
        "6 x 6": lambda: layer(x, indices + 36),
        r"expected an output size less than the stride \(2, 2\) away from \(6, 6\), got \(6, 8\)": (
            lambda: layer(x, indices, (6, 8))
        ),
        r"expected an input of shape \(N, C, H, W\), got shape \(2, 3, 3\)": lambda: layer(x[0], indices),
    }.items():
        with pytest.raises(nb.LayerError, match=f"MaxUnpool2d: .*{message}"):
            call()
    with pytest.raises(nb.LayerError, match=r"MaxUnpool2d \(layer 0\): needs the indices"):
        nb.Sequential(layer, backend=backend)(x)


def test_one_value_a_channel_has_no_variance():
    layer = nb.BatchNorm2d(3).to("reference")
    with pytest.raises(nb.LayerError, match=r"BatchNorm2d: training needs more than one value per channel"):
        layer.forward(array(1, 3, 1, 1), training=True)
    assert layer(array(1, 3, 1, 1)).shape == (1, 3, 1, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, np.complex64])
def test_numbers_that_are_not_floating_point(dtype):
    message = f"Sequential: expected floating point numbers, got {np.dtype(dtype)} in an input of shape"
    for call in (
        lambda: model()(array(*GOOD, dtype=dtype)),
        lambda: model().predict(array(*GOOD, dtype=dtype)),
        lambda: model().forward(array(*GOOD, dtype=dtype)),
    ):
        with pytest.raises(nb.DTypeError, match=message):
            call()
    with pytest.raises(TypeError, match="Conv2d: expected floating point numbers"):
        nb.Conv2d(3, 6, 3).to("reference")(array(*GOOD, dtype=dtype))


def test_bytes_come_with_advice():
    with pytest.raises(nb.DTypeError, match="images of 0 to 255 are best divided by 255"):
        model()(array(*GOOD, dtype=np.uint8))


def test_the_layer_protocol_takes_the_layers_dtype_only():
    message = r"expected float32, got float64 in an input of shape \(4, 3"
    layers = [nb.Conv2d(3, 6, 3), nb.ReLU(), nb.Flatten(), nb.MaxPool2d(2), nb.AvgPool2d(2)]
    for layer in (*layers, nb.AdaptiveAvgPool2d(1), nb.BatchNorm2d(3), nb.Dropout()):
        layer.to("reference")
        with pytest.raises(nb.DTypeError, match=message):
            layer.forward(array(*GOOD, dtype=np.float64))
        with pytest.raises(nb.DTypeError, match=message):
            layer.infer(array(*GOOD, dtype=np.float64))


def test_a_gradient_of_a_wrong_shape():
    _, backprop = model().forward(array(*GOOD))
    with pytest.raises(nb.LayerError, match=r"expected an output gradient of shape \(4, 10\), got \(4, 9\)"):
        backprop(array(4, 9))
    assert backprop(array(4, 10)).shape == GOOD


def test_predict_wants_examples():
    with pytest.raises(nb.LayerError, match="expected an array of examples, got a single number"):
        model().predict(1.0)
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        model().predict(array(*GOOD), batch_size=0)


# NaN, where asked to check


def test_nan_goes_through_unless_asked_for():
    x = array(*GOOD)
    x[2, 1, 3, 4] = np.nan
    assert np.isnan(model()(x)[2]).all()
    assert np.isnan(model().predict(x)[2]).all()


def test_nan_in_the_input():
    x = array(*GOOD)
    x[2, 1, 3, 4] = np.nan
    x[3, 0, 0, 0] = np.inf
    message = r"2 of 768 values of the input are not finite, the first is nan at \(2, 1, 3, 4\)"
    with pytest.raises(nb.NonFiniteError, match=message):
        model().predict(x, check_finite=True)


def test_nan_behind_a_layer_names_the_layer():
    broken = model()
    broken[3].weight.data[5] = np.inf
    with pytest.raises(nb.NonFiniteError, match=r"Conv2d \(layer 3\): .* of the output are not finite"):
        broken.predict(array(*GOOD), check_finite=True)
    inner = nb.Sequential(nb.ReLU(), broken, backend="reference")
    with pytest.raises(nb.NonFiniteError, match=r"Conv2d \(layer 1\.3\)"):
        inner.predict(array(*GOOD), check_finite=True)


def test_finite_arrays_pass_the_check():
    nb.check_finite(array(3, 4))
    nb.check_finite([])
    model().predict(array(*GOOD), check_finite=True)
    with pytest.raises(
        ValueError, match=r"1 of 2 values of the loss are not finite, the first is -inf at \(1,\)"
    ):
        nb.check_finite([0, -np.inf], "the loss")


# Arguments of layers


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nb.Conv2d(0, 4, 3), "in_channels must be a positive integer, got 0"),
        (lambda: nb.Conv2d(3, 4.0, 3), r"out_channels must be a positive integer, got 4\.0"),
        (lambda: nb.Conv2d(3, 4, 0), "kernel_size must be positive, got 0"),
        (lambda: nb.Conv2d(3, 4, (3, 3, 3)), r"kernel_size must be an integer or a pair of integers"),
        (lambda: nb.Conv2d(3, 4, 3, stride=0), "stride must be positive, got 0"),
        (lambda: nb.Conv2d(3, 4, 3, padding=-1), "padding must not be negative"),
        (lambda: nb.Conv2d(3, 4, 3, padding="full"), 'padding must be "same", "valid" or integers'),
        (lambda: nb.Conv2d(3, 4, 3, stride=2, padding="same"), 'padding="same" needs stride 1'),
        (lambda: nb.Conv2d(3, 4, 3, dilation=0), "dilation must be positive, got 0"),
        (lambda: nb.Conv2d(3, 4, 3, groups=2), "in_channels=3 is not divisible by groups=2"),
        (lambda: nb.Conv2d(4, 3, 3, groups=2), "out_channels=3 is not divisible by groups=2"),
        (lambda: nb.Conv2d(3, 4, 3, groups=0), "groups must be a positive integer, got 0"),
        (
            lambda: nb.Conv2d(3, 4, 3, padding_mode="mirror"),
            "padding_mode must be one of 'zeros', 'constant', 'reflect', .*, got 'mirror'",
        ),
        (lambda: nb.ConvTranspose2d(3, 4, 3, output_padding=1), "output_padding must not be negative and be"),
        (lambda: nb.ConvTranspose2d(3, 4, 3, padding="same"), "padding must be an integer or a pair"),
        (lambda: nb.ConvTranspose2d(3, 4, 3, groups=2), "in_channels=3 is not divisible by groups=2"),
        (lambda: nb.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), 'padding_mode must be "zeros", got'),
        (lambda: nb.Pad2d(-1), "padding must not be negative, got -1"),
        (lambda: nb.Pad2d("same"), "padding must be integers, got 'same'"),
        (lambda: nb.Pad2d(1, "mirror"), "mode must be one of 'zeros', 'constant', .*, got 'mirror'"),
        (lambda: nb.Pad2d(1, "zeros", 2.0), 'mode "zeros" has no other value, got 2.0'),
        (lambda: nb.Upsample(), "expected either size or scale_factor, got None and None"),
        (lambda: nb.Upsample(2, 2), "expected either size or scale_factor, got 2 and 2"),
        (lambda: nb.Upsample(0), "size must be positive, got 0"),
        (lambda: nb.Upsample(scale_factor=-1), "scale_factor must be a positive number or two, got -1"),
        (lambda: nb.Upsample(2, mode="bicubic"), "mode must be one of 'nearest', 'bilinear', got 'bicubic'"),
        (lambda: nb.Upsample(2, align_corners=True), 'align_corners goes with mode "bilinear"'),
        (lambda: nb.GroupNorm(3, 4), "4 channels cannot be parted into 3 groups"),
        (lambda: nb.GroupNorm(0, 4), "num_groups must be a positive integer, got 0"),
        (lambda: nb.LayerNorm(()), "normalized_shape must have at least one axis"),
        (lambda: nb.LayerNorm((3, 0)), "normalized_shape must be a positive integer, got 0"),
        (lambda: nb.LocalResponseNorm(0), "size must be a positive integer, got 0"),
        (lambda: nb.SubtractiveNorm(4), "kernel_size must be odd, for a window with a middle, got 4"),
        (lambda: nb.ContrastNorm(sigma=0.0), "sigma must be positive, got 0.0"),
        (lambda: nb.DivisiveNorm(eps=0), "eps must be positive, got 0"),
        (lambda: nb.Maxout(0), "pieces must be a positive integer, got 0"),
        (lambda: nb.Dropout2d(2), r"Dropout2d: p is a probability and must be in \[0, 1\], got 2"),
        (lambda: nb.MaxUnpool2d(0), "kernel_size must be positive, got 0"),
        (lambda: nb.PReLU(0), "num_parameters must be a positive integer, got 0"),
        (lambda: nb.GELU("erf"), 'approximate must be "none" or "tanh", got \'erf\''),
        (lambda: nb.Dense(0, 3), "in_features must be a positive integer, got 0"),
        (lambda: nb.Dense(3, True), "out_features must be a positive integer, got True"),
        (lambda: nb.MaxPool2d(0), "kernel_size must be positive, got 0"),
        (lambda: nb.MaxPool2d(3, padding=2), "padding must be at most half the kernel"),
        (lambda: nb.MaxPool2d(3, stride=-1), "stride must be positive"),
        (lambda: nb.AvgPool2d(3, padding=2), "padding must be at most half the kernel"),
        (lambda: nb.AvgPool2d(2, divisor_override=0), "divisor_override must not be 0"),
        (lambda: nb.AdaptiveAvgPool2d(0), "output_size must be positive, got 0"),
        (lambda: nb.AdaptiveAvgPool2d((1, 2, 3)), "output_size must be an integer or a pair"),
        (lambda: nb.BatchNorm2d(0), "num_features must be a positive integer, got 0"),
        (lambda: nb.Sequential(seed=-1), "Sequential: seed must not be negative, got -1"),
        (lambda: nb.Dropout(1.5), r"Dropout: p is a probability and must be in \[0, 1\], got 1\.5"),
        (lambda: nb.Dropout(float("nan")), r"must be in \[0, 1\], got nan"),
        (lambda: nb.CrossEntropyLoss(reduction="avg"), "reduction must be one of 'mean', 'sum', 'none'"),
        (lambda: nb.CrossEntropyLoss(label_smoothing=2), r"label_smoothing must be in \[0, 1\], got 2"),
        (lambda: nb.CrossEntropyLoss([[1.0]]), r"one number for each class, got shape \(1, 1\)"),
        (lambda: nb.MSELoss("max"), "reduction must be one of"),
        (lambda: nb.set_precision("exact"), "precision must be one of 'highest', 'high', 'medium'"),
        (lambda: nb.models.get("lenet6"), "unknown model 'lenet6'; there are .*lenet5"),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_layer():
    with pytest.raises(
        TypeError, match=r"holds layers, got <class .*ReLU'> \(a class: are the brackets missing"
    ):
        nb.Sequential(nb.ReLU)
    with pytest.raises(TypeError, match="holds layers, got 'relu'"):
        nb.Sequential().append("relu")


# Losses


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("y", "targets", "error", "message"),
    [
        (array(3, 4), [0, 4, 1], ValueError, r"label 4 at targets\[1\] is out of range for 4 classes"),
        (array(3, 4), [0, 1, -1], ValueError, r"label -1 at targets\[2\] is out of range for 4 classes"),
        (array(3, 4), [0, 1], ValueError, r"\(2,\)"),
        (array(3, 4), array(3, 5), ValueError, r"\(3, 5\)"),
        (array(3, 4), [[0], [1], [2]], ValueError, r"\(3, 1\)"),
        (array(4), [0], ValueError, r"expected logits \(N, C\) or \(N, C, H, W\), got shape \(4,\)"),
        (array(3, 4, dtype=np.int64), [0, 1, 2], TypeError, "int64"),
        (array(3, 4), ["a", "b", "c"], TypeError, "expected integer labels or float probabilities"),
    ],
)
def test_labels_and_logits_that_do_not_fit(backend, y, targets, error, message):
    with pytest.raises(error, match=message):
        nb.CrossEntropyLoss(backend=backend)(y, targets)


def test_more_losses():
    with pytest.raises(ValueError, match=r"weight.*\(3,\)"):
        nb.CrossEntropyLoss([1, 2, 3], backend="reference")(array(3, 4), [0, 1, 2])
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        nb.MSELoss(backend="reference")(array(2, 4), array(2, 3))
    with pytest.raises(TypeError, match="expected an array, got list"):
        nb.CrossEntropyLoss()([[1.0, 2.0]], [0])


# State dicts


def test_a_state_dict_with_every_fault_names_each():
    target = model()
    before = target.state_dict()
    state = target.state_dict()
    del state["0.bias"], state["1.running_var"]
    state["head.weight"] = array(1)
    state["3.weight"] = array(16, 6, 3, 3)
    state["6.weight"] = array(16, 10)
    state["6.bias"] = np.array(["a"] * 10)
    state["1.num_batches_tracked"] = np.array(7)  # PyTorch's, passed over
    state["0.weight"] = np.full((6, 3, 3, 3), 9, np.float32)  # fits, but must not be loaded
    with pytest.raises(nb.StateDictError) as caught:
        target.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "the state dict does not fit the model; nothing was loaded",
        "  missing: '0.bias'",
        "  missing: '1.running_var'",
        "  unexpected: 'head.weight'",
        "  misshapen: '3.weight' is (16, 6, 3, 3), needs (16, 6, 5, 5)",
        "  misshapen: '6.weight' is (16, 10), needs (10, 16)",
        "  unusable: '6.bias': expected an array of real numbers, got one of <U1",
    ]
    assert caught.value.missing == ["0.bias", "1.running_var"]
    assert caught.value.misshapen["6.weight"] == ((16, 10), (10, 16))
    for key, value in target.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    with pytest.raises(nb.StateDictError, match="misshapen"):
        target.load_state_dict(state, strict=False)


@pytest.mark.parametrize("given", [[1, 2], "model.safetensors", None, np.ones(3)])
def test_what_is_no_state_dict(given):
    with pytest.raises(
        TypeError, match=r"load_state_dict: expected arrays by name.*nbconv\.load reads a model"
    ):
        model().load_state_dict(given)


def test_every_unusable_value_has_a_reason():
    class Silent:
        def __array__(self, dtype=None, copy=None):
            raise TypeError

    values = [{"a": 1}, [[1], [2, 3]], "text", None, 1j, Silent(), 1e300, np.full(10, 1e39), np.array(["x"])]
    for value in values:
        with pytest.raises(nb.StateDictError) as caught:
            model().load_state_dict({"6.bias": value, 7: 8}, strict=False)
        assert caught.value.unusable["6.bias"]
        assert 7 in caught.value.unexpected


def test_pytorchs_tensors_are_taken_as_they_come():
    """What NumPy lacks, float32 holds exactly; a gradient they want stays theirs."""
    torch = pytest.importorskip("torch")
    layer = nb.Dense(4, 2)
    weight = torch.tensor([[1.5, -2.0, 0.25, 8.0]] * 2)
    for kind in ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8"):
        given = weight.to(getattr(torch, kind))
        layer.load_state_dict({"weight": given, "bias": torch.zeros(2, requires_grad=True)})
        np.testing.assert_array_equal(layer.weight.data, given.float().numpy())
    sequential = nb.Sequential(layer)
    x = torch.ones(3, 4)
    wanted = sequential(x.numpy())
    for kind in (torch.float32, torch.bfloat16):
        wants = x.to(kind).requires_grad_()
        np.testing.assert_array_equal(sequential(wants), wanted)
        np.testing.assert_array_equal(sequential.predict(wants), wanted)
        trainer = nb.Trainer(sequential, nb.CrossEntropyLoss(), nb.SGD(sequential.parameters(), 0.0))
        trainer.fit(wants, torch.tensor([0, 1, 1]), verbose=False)
    with pytest.raises(nb.StateDictError, match="unusable: 'weight': expected an array, got a Tensor"):
        layer.load_state_dict({"weight": weight.to_sparse(), "bias": torch.zeros(2)})


# Backends


WITHOUT_CUDA = pytest.mark.skipif(nb.backends.available()["cuda"] is True, reason="CUDA is available here")


@WITHOUT_CUDA
def test_cuda_says_what_to_do():
    with pytest.raises(
        nb.BackendUnavailable, match=r"backend 'cuda' is not available: .*(install|update|extras)"
    ):
        nb.Sequential(nb.ReLU(), backend="cuda")
    with pytest.raises(RuntimeError):
        nb.backends.get("cuda")
    unmoved = nb.Sequential(nb.Dense(2, 2), backend="reference")
    with pytest.raises(nb.BackendUnavailable):
        unmoved.to("cuda")
    assert unmoved.backend == unmoved[0].backend == "reference"


def test_an_unknown_backend():
    with pytest.raises(ValueError, match="unknown backend 'tpu'; there are 'cpu', 'reference', 'cuda'"):
        nb.Sequential(backend="tpu")
    with pytest.raises(ValueError, match="unknown backend"):
        nb.CrossEntropyLoss(backend="tpu")
    with pytest.raises(ValueError, match="dtype must be float32 or float64, got float16"):
        nb.Sequential(dtype="float16")


@WITHOUT_CUDA
def test_available_gives_reasons():
    available = nb.backends.available()
    assert available["reference"] is True
    assert available["cpu"] is True
    assert re.search("CUDA|cuda", available["cuda"])
