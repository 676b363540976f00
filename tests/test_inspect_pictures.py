import subprocess
import sys

import numpy as np
import pytest

import nbconv as nb

pytest.importorskip("matplotlib")

rng = np.random.default_rng(8)
X = rng.random((3, 3, 12, 16)).astype(np.float32)
HISTORY = nb.History({"loss": [2.0, 1.0], "val_loss": [2.5, 2.0], "accuracy": [0.2, 0.5], "lr": [0.1, 0.1]})


def model():
    return nb.Sequential(
        *(nb.Conv2d(3, 4, 3, padding=1), nb.ReLU(), nb.Conv2d(4, 5, 3), nb.ReLU(), nb.MaxPool2d(2)),
        *(nb.Flatten(), nb.Dense(175, 3)),
        backend="reference",
        seed=0,
    )


MAPS = rng.standard_normal((3, 12, 16))
MATRIX = np.array([[5, 1, 0], [0, 7, 0], [2, 0, 0]])
MISTAKES = nb.inspect.Mistakes(
    np.array([2, 0]), np.array([1, 0]), np.array([0, 2]), np.array([3.0, 1.0]), np.zeros((2, 3))
)
PICTURES = {
    "learning_curves": lambda path: nb.inspect.plot_learning_curves(HISTORY, path),
    "confusion_matrix": lambda path: nb.inspect.plot_confusion_matrix(MATRIX, path, names=["a", "b", "c"]),
    "saliency": lambda path: nb.inspect.plot_saliency(X, np.abs(MAPS), path, titles=["a", "b", "c"]),
    "grad_cam": lambda path: nb.inspect.plot_grad_cam(X, np.abs(MAPS[:, :3, :4]), path),
    "occlusion": lambda path: nb.inspect.plot_occlusion(X, MAPS[:, :9, :13], path),
    "filters": lambda path: nb.inspect.plot_filters(model(), path),
    "deeper_filters": lambda path: nb.inspect.plot_filters(model(), path, layer=2),
    "activations": lambda path: nb.inspect.plot_activations(model(), X, 1, path, image=2),
    "deconvolution": lambda path: nb.inspect.plot_deconvolution(model(), X, 3, path),
    "receptive_field": lambda path: nb.inspect.plot_receptive_field(model(), X[0], 4, (2, 3), path),
    "mistakes": lambda path: nb.inspect.plot_mistakes(X, MISTAKES, path, names=["a", "b", "c"]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture(tmp_path, name):
    image = pytest.importorskip("PIL.Image")
    figure = PICTURES[name](tmp_path / "picture.png")
    width, height = figure.get_size_inches()
    with image.open(tmp_path / "picture.png") as picture:
        assert picture.size == pytest.approx((150 * width, 150 * height), abs=1)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 3


def test_what_is_drawn():
    figure = PICTURES["confusion_matrix"](None)
    axes = figure.axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2", "5", "7"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    figure = PICTURES["mistakes"](None)
    assert figure.axes[0].get_title() == "b, taken for a\nloss 3.00"
    np.testing.assert_allclose(
        figure.axes[1].images[0].get_array(), nb.inspect.image_grid(X[:1], scale="each")
    )
    figure = PICTURES["learning_curves"](None)
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), [2.5, 2.0])
    (frame,) = PICTURES["receptive_field"](None).axes[0].patches
    rows, columns = nb.inspect.receptive_box(model(), 4, (2, 3), (12, 16))
    assert (frame.get_x(), frame.get_y()) == (columns.start - 0.5, rows.start - 0.5)
    assert (frame.get_width(), frame.get_height()) == (6, 6)
    figure = PICTURES["saliency"](None)
    np.testing.assert_array_equal(figure.axes[4].images[0].get_array(), np.abs(MAPS[1]))


def test_a_confusion_matrix_of_many_classes_stays_a_picture():
    matrix = np.eye(1000, dtype=np.int64)
    figure = nb.inspect.plot_confusion_matrix(matrix, names=[f"class {i}" for i in range(1000)])
    assert max(figure.get_size_inches()) <= 20
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"class {i}" for i in range(0, 1000, 25)]


def test_pictures_refuse_what_they_cannot_draw(tmp_path):
    with pytest.raises(ValueError, match="suffix must be one of"):
        nb.inspect.plot_saliency(X, MAPS, tmp_path / "picture.doc")
    with pytest.raises(nb.DataError, match="no images to draw"):
        nb.inspect.plot_saliency(X[:0], MAPS[:0])
    with pytest.raises(nb.DataError, match="no mistakes"):
        nb.inspect.plot_mistakes(X, nb.inspect.Mistakes(*[np.zeros(0, int)] * 4, np.zeros((0, 3))))
    with pytest.raises(nb.DataError, match=r"image of shape \(C, H, W\)"):
        nb.inspect.plot_receptive_field(model(), X, 4, (0, 0))
    with pytest.raises(nb.LayerError, match="gives no feature maps"):
        nb.inspect.plot_activations(model(), X, 6)
    with pytest.raises(ValueError, match="no completed epoch"):
        nb.inspect.plot_learning_curves(nb.History())


def test_without_matplotlib_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib'] = None; import nbconv as nb, numpy as np\n"
        "try: nb.inspect.plot_confusion_matrix(np.eye(2, dtype=int))\n"
        "except nb.NbconvError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "nbconv[plot]"' in done.stdout
