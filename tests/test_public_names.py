import nbconv as nb


def test_every_public_name_is_there():
    assert sorted(nb.__all__) == sorted(set(nb.__all__))
    for name in nb.__all__:
        assert hasattr(nb, name)


def test_precision_can_be_set_and_asked():
    assert nb.get_precision() == "high"
    nb.set_precision("highest")
    assert nb.get_precision() == "highest"
    nb.set_precision("high")


def test_models_are_found_by_name():
    assert "lenet5" in nb.models.names()
    model = nb.models.get("lenet5")(num_classes=7, in_channels=3)
    assert model.output_shape((1, 3, 32, 32)) == (1, 7)


def test_the_original_lenet_can_be_built():
    model = nb.models.lenet5(activation=nb.Tanh, pooling=nb.AvgPool2d)
    assert isinstance(model[1], nb.Tanh)
    assert isinstance(model[2], nb.AvgPool2d)
    assert model.summary((1, 32, 32)).parameters == 61_706
