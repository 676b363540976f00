import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

import nbconv as nb
from nbconv.cli import main
from nbconv.report import Run, load_run, report, save_run

pytest.importorskip("matplotlib")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVIL = '<script>alert("&amp;")</script>'
SECTIONS = [
    "Learning curves",
    "Confusion matrix",
    "Filters of the first convolution",
    "What it looks at, where it is right",
    "Where it is wrong, the worst first",
    "The network",
    "Times",
    "Settings and results",
]

rng = np.random.default_rng(6)
X = rng.random((30, 1, 12, 12)).astype(np.float32)
Y = np.arange(30) % 3


def small_run(**settings):
    model = nb.Sequential(
        *(nb.Conv2d(1, 4, 3), nb.ReLU(), nb.MaxPool2d(2), nb.Flatten(), nb.Dense(100, 3)),
        backend="reference",
        seed=0,
    )
    optimizer = nb.Adam(model.parameters(), lr=0.01)
    history = nb.Trainer(model, nb.CrossEntropyLoss(), optimizer).fit(
        X, Y, epochs=3, validation_data=(X, Y), verbose=False
    )
    return Run(model, history, {"data": "digits", "seed": 0, "note": EVIL, "rates": {"sgd": 0.1}, **settings})


@pytest.fixture(scope="module")
def page():
    return report(small_run(), X, Y, images=5)


class Reader(HTMLParser):
    """Checks that elements nest, and gathers what there is."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.text, self.headings = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.headings if self.open[-1:] == ["h2"] else self.text).append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_holds_every_section(page):
    reader = read(page)
    assert reader.headings == SECTIONS
    pictures = [attributes for tag, attributes in reader.elements if tag == "img"]
    assert len(pictures) == 7
    assert all(picture["alt"] for picture in pictures)
    anchors = {attributes["href"] for tag, attributes in reader.elements if tag == "a"}
    places = {"#" + attributes["id"] for tag, attributes in reader.elements if tag == "section"}
    assert anchors == places
    assert len(places) == len(SECTIONS)
    text = " ".join(reader.text)
    wrong = int(re.search(r"held-out images are told right, (\d+) are not", text)[1])
    model = small_run().model
    assert wrong == np.count_nonzero(model.predict(X).argmax(axis=1) != Y)
    assert f"{100 * (30 - wrong) / 30:.2f} % of 30" in text
    assert "0 Conv2d" in text
    assert "training, all epochs" in text
    assert "sgd 0.1" in text


def test_nothing_comes_from_outside_and_text_is_no_markup(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(&quot;&amp;amp;&quot;)&lt;/script&gt;" in page
    reader = read(page)
    assert not {tag for tag, _ in reader.elements} & {"script", "link", "iframe", "object", "embed"}
    for tag, attributes in reader.elements:
        for name in ("src", "href", "srcset", "data", "action", "background", "poster"):
            value = attributes.get(name, "")
            assert value == "" or value.startswith(("data:image/png;base64,", "#")), (tag, name, value)
    assert "url(" not in page
    assert "@import" not in page
    assert not re.search(r"https?://", page)


def test_pictures_are_whole(page):
    image = pytest.importorskip("PIL.Image")
    import base64
    import io

    for tag, attributes in read(page).elements:
        if tag == "img":
            raw = base64.b64decode(attributes["src"].partition(",")[2], validate=True)
            with image.open(io.BytesIO(raw)) as picture:
                picture.load()
                expected = int(attributes["width"]), int(attributes["height"])
                assert picture.size == pytest.approx(expected, abs=1)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_a_browser_shows_the_page(page, tmp_path):
    """Every picture is decoded and in its place, nothing is refused, and no line is wider than the window."""
    told = """<script>addEventListener("load", () => { document.title = JSON.stringify({
        pictures: [...document.images].map(i => [i.complete, i.naturalWidth, i.offsetWidth, i.offsetHeight]),
        headings: [...document.querySelectorAll("h2")].map(h => h.innerText),
        overflow: document.documentElement.scrollWidth - innerWidth,
        errors: performance.getEntriesByType("resource").map(r => r.name.slice(0, 60)) }) })</script>"""
    plain, watched = tmp_path / "plain.html", tmp_path / "watched.html"
    plain.write_text(page, encoding="utf-8")
    # The page itself allows no script: the one that looks around needs a page without that rule.
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', told, page)
    assert free != page
    watched.write_text(free, encoding="utf-8")
    dom = browse(tmp_path, "--dump-dom", watched.as_uri()).stdout
    found = json.loads(re.search("<title>(.*?)</title>", dom)[1].replace("&amp;", "&"))
    assert found["headings"] == SECTIONS
    assert len(found["pictures"]) == 7
    assert all(complete and min(sizes) > 50 for complete, *sizes in found["pictures"])
    assert found["overflow"] <= 0
    assert [name for name in found["errors"] if not name.startswith("data:")] == []

    shot = tmp_path / "page.png"
    logged = browse(tmp_path, "--enable-logging=stderr", f"--screenshot={shot}", plain.as_uri()).stderr
    assert "CONSOLE" not in logged, logged
    image = pytest.importorskip("PIL.Image")
    with image.open(shot) as picture:
        shown = np.asarray(picture.convert("RGB"))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 50  # pictures, not words alone


def browse(folder, *arguments):
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=900,2400"]
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"]
    return subprocess.run(
        [BROWSER, *options, *offline, *arguments], capture_output=True, text=True, timeout=200, check=True
    )


def test_sections_without_matter_are_left_out():
    dense = nb.Sequential(nb.Flatten(), nb.Dense(144, 3), backend="reference", seed=0)
    right = dense.predict(X).argmax(axis=1)
    headings = read(report(Run(dense), X, right)).headings
    assert headings == ["Confusion matrix", "What it looks at, where it is right", "The network", "Times"]
    wrong = read(report(Run(dense), X, (right + 1) % 3, images=2)).headings
    assert wrong == ["Confusion matrix", "Where it is wrong, the worst first", "The network", "Times"]


def test_settings_may_be_anything():
    deep = None
    for _ in range(900):
        deep = {"in": [deep]}
    page = report(small_run(**{"deep": deep, "\x1b[2J": ["\u202eback", 0.5]}), X, Y, images=1)
    assert "in [in [...]]" in page
    assert "\\x1b[2J" in page
    assert "[\\u202eback, 0.5]" in page
    assert not {"\x1b", "\u202e"} & set(page)


def test_classes_have_names():
    page = report(small_run(), X, Y, names=["cat", "dog", "<cow>"])
    assert "<cow>" not in page
    assert "&lt;cow&gt;" in page


def test_a_report_needs_labelled_images():
    for x, y in ((X[:0], Y[:0]), (X, Y[:-1]), (X.reshape(30, -1), Y)):
        with pytest.raises(nb.DataError, match="expected images"):
            report(small_run(), x, y)


def test_a_run_is_saved_and_read(tmp_path):
    run = small_run()
    save_run(tmp_path / "a" / "b", run.model, run.history, run.settings)
    read_back = load_run(tmp_path / "a" / "b", backend="reference")
    assert read_back.history == run.history
    assert read_back.settings == run.settings
    assert read_back.name == "b"
    np.testing.assert_array_equal(read_back.model(X), run.model(X))
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "history.json",
        "model.safetensors",
        "run.json",
    ]
    (tmp_path / "a" / "b" / "history.json").unlink()
    assert load_run(tmp_path / "a" / "b", backend="reference").history is None
    with pytest.raises(TypeError):
        save_run(tmp_path / "c", run.model, run.history, {"x": X})
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("history.json", "{", "history.json is damaged"),
        ("history.json", '{"history": [1]}', "holds no history"),
        ("history.json", '{"history": {"loss": ["0.5"]}}', "must be lists of numbers"),
        ("history.json", '{"history": {"=1+1": [1]}}', "'=1+1' is no name of a measurement"),
        ("run.json", "[]", "no table of names and values"),
        ("run.json", '{"a":' * 100_000, "run.json is damaged"),
        ("run.json", "\udcff", "run.json is damaged"),
    ],
)
def test_damaged_runs_are_told(tmp_path, name, text, message):
    run = small_run()
    save_run(tmp_path, run.model, run.history)
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(nb.CheckpointError, match=re.escape(message)):
        load_run(tmp_path)


def test_a_folder_without_a_run_is_told(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "is no folder of a run: there is no model.safetensors in it" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nothing.safetensors")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_train_and_report_from_the_command_line(tmp_path, capsys):
    folder = tmp_path / "run"
    train = ["train", "--model", "lenet5", "--epochs", "2", "--quiet", "--run", str(folder)]
    assert main(train) == 0
    assert main(["report", str(folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == {
        "command": "report",
        "data": "digits",
        "report": str(folder / "report.html"),
        "images": 359,
    }
    reader = read((folder / "report.html").read_text(encoding="utf-8"))
    assert "Learning curves" in reader.headings
    assert f"Run {folder.name}" in reader.text
    assert load_run(folder).history.epochs == 2

    other = tmp_path / "alone.html"
    model = str(folder / "model.safetensors")
    assert main(["report", model, "--output", str(other), "--images", "2"]) == 0
    assert "Learning curves" not in read(other.read_text(encoding="utf-8")).headings
