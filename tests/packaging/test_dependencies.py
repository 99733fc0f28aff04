"""The files that a training run depends on are all found, and no others; their digest changes with their statements."""

import subprocess
import sys

import pytest

from kvformer.dependencies import CONFIGURATION, PACKAGE, _read, digest, source_files


def _names(*modules, without=()):
    return {path.relative_to(PACKAGE).as_posix() for path in source_files(*modules, without=without)}


def test_nothing_that_training_loads_is_left_out():
    code = "import sys, kvformer.training.run; print(*(name for name in sys.modules if name.startswith('kvformer.')))"
    environment = {"PYTHONPATH": str(PACKAGE.parent), "PATH": ""}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded = set()
    for module in result.stdout.split():
        path = PACKAGE.joinpath(*module.split(".")[1:])
        loaded.add((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).relative_to(PACKAGE).as_posix())
    # The package `tasks` finds its modules by listing its folder; a run uses its own task's module only.
    others = {name for name in loaded if name.startswith("tasks/")} - _names("tasks.synthetic")
    assert loaded - others <= _names("training.run", "tasks.synthetic")


def test_training_does_not_depend_on_what_comes_before_or_after_it():
    names = _names("training.run", "tasks.synthetic", without=CONFIGURATION)
    assert {
        "models/attention/module.py",
        "training/loop.py",
        "models/blocks.py",
        "tasks/synthetic.py",
        "tasks/base.py",
    } <= names
    assert not [name for name in names if name.startswith(("reporting", "tracking", "cli", "data/sources"))]
    assert not names & {"config/run.py", "spec/variants.py", "tasks/vision.py", "tasks/translation.py"}


def test_training_depends_on_no_module_that_prepares_data():
    tasks = [f"tasks.{path.stem}" for path in (PACKAGE / "tasks").glob("[!_]*.py")]
    names = _names("training.run", *tasks, without=CONFIGURATION)
    assert {name for name in names if name.startswith("data/")} == {
        "data/__init__.py",
        "data/scripts.py",
        "data/tokens.py",
    }


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder that takes the place of the package."""
    monkeypatch.setattr("kvformer.dependencies.PACKAGE", tmp_path / "package")
    (tmp_path / "package").mkdir()
    return tmp_path / "package"


def test_imports_inside_functions_count(package):
    (package / "inner").mkdir()
    for name, content in {
        "start.py": "def later():\n    from package.inner import leaf\n",
        "inner/__init__.py": "",
        "inner/leaf.py": "import package.start, json\n",
        "unused.py": "",
    }.items():
        (package / name).write_text(content)
    found = [path.relative_to(package).as_posix() for path in source_files("start")]
    assert found == ["inner/__init__.py", "inner/leaf.py", "start.py"]


CODE = '''"""Words."""

def f(x, y=None):
    """More words."""
    return x[1:] + y

LIMIT = 1
"""Its meaning."""
'''


def _digest(package, text):
    (package / "module.py").write_text(text)
    _read.cache_clear()
    digest.cache_clear()
    return digest("module")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Words.", "Other words."),
        ("More words.", "Fewer."),
        ("    return", "    # a remark\n\n    return"),
        ("x[1:] + y", "(x[1:]\n        + y)"),
        ('"""Its meaning."""\n', ""),
        ('    """More words."""\n', ""),
    ],
)
def test_comments_docstrings_and_layout_do_not_change_a_digest(package, old, new):
    assert old in CODE
    assert _digest(package, CODE.replace(old, new)) == _digest(package, CODE)


@pytest.mark.parametrize(
    ("old", "new"), [("+ y", "- y"), ("x[1:]", "x[:1]"), ("LIMIT = 1", "LIMIT = True"), ("y=None", "y=0"), ("x, ", "")]
)
def test_statements_change_a_digest(package, old, new):
    assert old in CODE
    assert _digest(package, CODE.replace(old, new)) != _digest(package, CODE)


def test_the_name_of_a_file_changes_a_digest(package):
    first = _digest(package, CODE)
    (package / "other.py").write_text(CODE)
    assert digest("other") != first
