"""The networks: shapes, published numbers of parameters and multiply-adds, names, and saving."""

import numpy as np
import pytest

import nbconv as nb
from nbconv import models

# (parameters, multiply-adds in millions) for 1000 classes at the size the network is for.
PUBLISHED = {
    "alexnet": (62_378_344, 1_135),
    "googlenet": (6_998_552, 1_583),
    "vgg11": (132_863_336, 7_609),
    "vgg13": (133_047_848, 11_308),
    "vgg16": (138_357_544, 15_470),
    "vgg19": (143_667_240, 19_632),
    "vgg11_bn": (132_868_840, 7_609),
    "vgg13_bn": (133_053_736, 11_308),
    "vgg16_bn": (138_365_992, 15_470),
    "vgg19_bn": (143_678_248, 19_632),
    "resnet18": (11_689_512, 1_814),
    "resnet34": (21_797_672, 3_664),
    "resnet50": (25_557_032, 4_089),
    "resnet101": (44_549_160, 7_801),
    "resnet152": (60_192_808, 11_514),
    "densenet121": (7_978_856, 2_834),
    "densenet169": (14_149_480, 3_360),
    "densenet201": (20_013_928, 4_291),
    "mobilenet_v1": (4_231_976, 569),
    "mobilenet_v2": (3_504_872, 301),
}


def parameters(model):
    return sum(parameter.size for parameter in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_multiply_adds_are_the_published_ones(name):
    size = models.image_size(name)
    summary = models.get(name)().summary((3, size, size))
    assert summary.parameters == PUBLISHED[name][0]
    assert round(summary.macs / 1e6) == PUBLISHED[name][1]


@pytest.mark.parametrize("name", models.names())
def test_every_model_gives_one_logit_a_class(name):
    model = models.get(name)(num_classes=7, in_channels=2)
    size = models.image_size(name)
    assert model.output_shape((3, 2, size, size)) == (3, 7)
    assert not any(parameter.is_drawn for parameter in model.parameters())


@pytest.mark.parametrize("name", models.names(small=True))
def test_small_forms_take_small_images(name):
    model = models.get(name, small=True)(num_classes=7, in_channels=2)
    assert model.output_shape((3, 2, models.SMALL_IMAGE, models.SMALL_IMAGE)) == (3, 7)


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"unknown model 'resnet19'; there are lenet5, .*resnet18"):
        models.get("resnet19")
    with pytest.raises(ValueError, match="unknown model"):
        models.image_size("resnet19")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: models.alexnet(variant="caffe"),
            "variant must be one of 'paper', 'torchvision', got 'caffe'",
        ),
        (lambda: models.alexnet(variant="torchvision", grouped=True), "torchvision's variant has no groups"),
        (lambda: models.googlenet(variant="caffe"), "variant must be one of 'paper', 'torchvision'"),
        (lambda: models.get("alexnet", small=True), "alexnet has no form for images of 32 x 32"),
        (lambda: models.vgg.vgg(12), "depth must be one of 11, 13, 16, 19, got 12"),
        (lambda: models.resnet.resnet(20), "depth must be one of 18, 34, 50, 101, 152, got 20"),
        (lambda: models.resnet.plain(50), "depth must be one of 18, 34, got 50"),
        (lambda: models.densenet.densenet(120), "depth must be one of 121, 169, 201, got 120"),
        (lambda: models.densenet_cifar(depth=41), "depth must be 4 plus a multiple of 3, got 41"),
        (lambda: models.densenet_cifar(depth=43, bottleneck=True), "4 plus a multiple of 6, got 43"),
    ],
)
def test_what_cannot_be_built_is_explained(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("multiplier", "count", "macs"),
    [(1.0, 4.2, 569), (0.75, 2.6, 325), (0.5, 1.3, 149), (0.25, 0.5, 41)],
)
def test_width_multipliers_thin_mobilenet_as_in_its_paper(multiplier, count, macs):
    summary = models.mobilenet_v1(width_multiplier=multiplier).summary((3, 224, 224))
    assert round(summary.parameters / 1e6, 1) == count
    assert int(summary.macs / 1e6 + 0.5) == macs


@pytest.mark.parametrize(
    ("name", "options", "count", "macs"),
    [
        ("alexnet", {"grouped": True}, 60_965_224, 724),
        ("alexnet", {"variant": "torchvision"}, 61_100_840, 714),
        ("googlenet", {"auxiliary": True}, 13_378_280, 1_583),
        ("googlenet", {"variant": "torchvision"}, 6_624_904, 1_498),
        ("googlenet", {"variant": "torchvision", "auxiliary": True}, 13_004_888, 1_498),
    ],
)
def test_variants_have_their_published_numbers(name, options, count, macs):
    size = 224 if options.get("variant") else models.image_size(name)
    summary = models.get(name)(**options).summary((3, size, size))
    assert (summary.parameters, round(summary.macs / 1e6)) == (count, macs)


def test_naive_inception_costs_what_the_reductions_save():
    naive = models.inception.naive_inception(256, 128, 192, 96)
    reduced = models.inception.inception(256, (128, 64, 192, 64, 96, 64))
    shape = (1, 256, 28, 28)
    assert (naive.output_shape(shape), reduced.output_shape(shape)) == ((1, 672, 28, 28), (1, 480, 28, 28))
    assert (round(naive.macs(shape) / 1e6), round(reduced.macs(shape) / 1e6)) == (854, 271)


def test_mobilenet_v2_gets_wider_and_thinner():
    assert parameters(models.mobilenet_v2(width_multiplier=0.5)) < 2e6
    assert parameters(models.mobilenet_v2(width_multiplier=1.4)) == pytest.approx(6.1e6, rel=0.01)


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({}, 1.0),
        ({"depth": 100}, 7.0),
        ({"depth": 100, "growth_rate": 24}, 27.2),
        ({"depth": 100, "bottleneck": True}, 0.8),
        ({"depth": 250, "growth_rate": 24, "bottleneck": True}, 15.3),
        ({"depth": 190, "growth_rate": 40, "bottleneck": True}, 25.6),
    ],
)
def test_densenets_for_small_images_are_those_of_the_paper(options, millions):
    assert round(parameters(models.densenet_cifar(**options)) / 1e6, 1) == millions


@pytest.mark.parametrize(("name", "size"), [("alexnet", 195), ("vgg16", 212), ("mobilenet_v1", 315)])
def test_receptive_fields_are_the_published_ones(name, size):
    # Araujo et al., "Computing receptive fields of convolutional neural networks", 2019.
    rows = nb.inspect.receptive_field(models.get(name)()).rows
    last = [row for row in rows if row.size][-1]
    assert (last.size, last.stride) == ((size, size), (32, 32))


def test_a_plain_network_lacks_nothing_but_the_shortcuts():
    residual, plain = models.resnet34(10, 1, small=True), models.plain34(10, 1, small=True)
    shortcuts = [
        inner.shortcut
        for _, inner in residual.named_layers()
        if isinstance(inner, nb.Residual) and inner.shortcut
    ]
    assert len(shortcuts) == 3
    assert parameters(residual) - parameters(plain) == sum(map(parameters, shortcuts))
    assert residual.summary((1, 32, 32)).macs > plain.summary((1, 32, 32)).macs


def test_the_printed_structure_shows_the_blocks():
    lines = str(models.resnet18(small=True)).splitlines()
    assert lines[1] == "  (0): Conv2d(3, 64, 3, padding=1, bias=False)"
    assert lines.count("    (0): Residual(") == 4
    assert "      (shortcut): Sequential(" in lines
    assert lines[-2] == "  (8): Dense(512, 1000)"


SAVED = {
    "vgg11": lambda **o: models.vgg11(5, 1, width=2, small=True, batch_norm=True, **o),
    "resnet50": lambda **o: models.resnet50(5, 1, width=2, small=True, **o),
    "densenet_cifar": lambda **o: models.densenet_cifar(5, 1, depth=10, growth_rate=2, bottleneck=True, **o),
    "mobilenet_v1": lambda **o: models.mobilenet_v1(5, 1, width_multiplier=0.1, small=True, **o),
    "mobilenet_v2": lambda **o: models.mobilenet_v2(5, 1, width_multiplier=0.1, small=True, **o),
}


@pytest.mark.parametrize("name", SAVED)
def test_models_can_be_saved_and_seeds_repeat_them(name, tmp_path):
    model, same, other = (SAVED[name](seed=seed, backend="reference") for seed in (1, 1, 2))
    x = np.random.default_rng(0).standard_normal((2, 1, 32, 32)).astype(np.float32)
    np.testing.assert_array_equal(model(x), same(x))
    assert (model(x) != other(x)).any()
    model.save(tmp_path / "model.safetensors")
    again = nb.load(tmp_path / "model.safetensors", backend="reference")
    np.testing.assert_array_equal(again(x), model(x))
    assert repr(again) == repr(model)
