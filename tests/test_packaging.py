"""What the repository and the installed package promise."""

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata, resources
from pathlib import Path

import pytest

import nbconv as nb

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def python(*arguments, cwd):
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_version_is_the_same_everywhere():
    assert nb.__version__ == metadata.version("nbconv")
    latest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest is not None
    assert latest[1] == nb.__version__


def test_the_command_is_installed():
    (entry,) = metadata.entry_points(group="console_scripts", name="nbconv")
    assert entry.load() is importlib.import_module("nbconv.cli").main


WITHOUT_METADATA = """
import importlib.metadata, sys
def version(name):
    if name == "nbconv":
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
real, importlib.metadata.version = importlib.metadata.version, version
from nbconv.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_command_needs_neither_metadata_nor_files_beside_its_code(tmp_path):
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for top in (ROOT / "nbconv", ROOT / "kernels" / "nbconv_kernels"):
            for path in top.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    packed.write(path, path.relative_to(top.parent))

    def run(*arguments):
        code = f"import sys; sys.path.insert(0, {str(archive)!r})\n{WITHOUT_METADATA}"
        return python("-c", code, *arguments, cwd=tmp_path)

    assert run("info", "--json").splitlines()[0] == "versions:"
    # The digits and the recipe of options that goes with them come from the archive as well.
    shown = run("train", "--epochs", "1", "--backend", "reference", "--output", "m.safetensors")
    assert shown.splitlines()[0] == "lenet5 on digits: 1,438 images of 32 x 32 to train on, 359 held out"
    assert "held-out accuracy" in run("evaluate", "m.safetensors", "--backend", "reference")


def test_types_and_data_are_in_the_package():
    files = resources.files("nbconv")
    assert files.joinpath("py.typed").is_file()
    assert 0 < len(files.joinpath("data/digits.npz").read_bytes()) < 100_000


def test_importing_loads_nothing_heavy():
    code = "import sys, nbconv; print(*sys.modules)"
    loaded = set(python("-c", code, cwd=ROOT).split())
    assert not loaded & {"numba", "llvmlite", "rich", "matplotlib", "PIL", "scipy", "torch"}
    assert "nbconv.trainer" in loaded


def test_the_example_of_the_readme_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert "epochs=10" in code
    shown = python("-c", code.replace("epochs=10", "epochs=2"), cwd=tmp_path)
    assert shown.splitlines()[0].startswith("epoch 1/2 loss ")
    assert re.search(r"^\[(\d ?){8}\] \[(\d ?){8}\]$", shown, re.MULTILINE)
    assert (tmp_path / "lenet.safetensors").exists()


def test_every_file_the_documents_name_exists():
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        paths = set(
            re.findall(r"`((?:nbconv|kernels|tests|examples|benchmarks|nbconv_kernels)/[\w./]*)`", text)
        )
        assert paths
        assert not {path for path in paths if not (ROOT / path).exists()}
        assert not {link for link in re.findall(r"\]\(([A-Z]\w*\.md)\)", text) if not (ROOT / link).exists()}


def test_the_demo_trains_the_network_that_was_promised():
    (shown,) = {line for line in (ROOT / "Makefile").read_text().splitlines() if "nbconv train" in line}
    from nbconv.cli import _parser

    options = _parser().parse_args(shown.split("nbconv ", 1)[1].split())
    assert (options.data, options.model, options.epochs, options.seed) == ("digits", "lenet5", 30, 0)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example):
    spec = importlib.util.spec_from_file_location(example.stem, example)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(*([["--quick"]] if "--quick" in example.read_text() else []))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_keep_their_promise(example, tmp_path):
    python(example, cwd=tmp_path)


def test_the_ci_script_is_executable_and_strict():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
