"""The list of files that a training depends on is complete, and no longer than it must be."""

import subprocess
import sys

from kvformer.dependencies import CONFIGURATION, PACKAGE, source_files


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
    # The package `tasks` finds its modules by listing its folder; a training uses its own task's module only.
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
    assert {name for name in names if name.startswith("data/")} == {"data/__init__.py", "data/tokens.py"}


def test_imports_inside_functions_count(tmp_path, monkeypatch):
    monkeypatch.setattr("kvformer.dependencies.PACKAGE", tmp_path / "package")
    (tmp_path / "package" / "inner").mkdir(parents=True)
    for name, content in {
        "start.py": "def later():\n    from package.inner import leaf\n",
        "inner/__init__.py": "",
        "inner/leaf.py": "import package.start, json\n",
        "unused.py": "",
    }.items():
        (tmp_path / "package" / name).write_text(content)
    found = [path.relative_to(tmp_path / "package").as_posix() for path in source_files("start")]
    assert found == ["inner/__init__.py", "inner/leaf.py", "start.py"]
