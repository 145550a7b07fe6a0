"""devkit pr try over wheels: Paddle's Python over one, one of the project's CI, and what is installed beside it."""

from __future__ import annotations

import functools
import http.server
import importlib.metadata
import json
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from devkit.builds.python import Python
from devkit.tryout.ci_wheels import accelerator, find
from tests.commands.pr.ledger import MONEY, Ledger, everything, start, words
from tests.commands.pr.random_clones import fork_devkit

if TYPE_CHECKING:
    from collections.abc import Iterator

PADDLE = {
    "CMakeLists.txt": "project(paddle CXX C)\n",
    "python/paddle/__init__.py": "from paddle.base import VALUE\nfrom paddle.words import word\n",
    "python/paddle/base/__init__.py": "from paddle.base.generated import VALUE\n",
    "python/paddle/words.py": "def word():\n    return 'base'\n",
    "paddle/phi/scale.cc": "int scale;\n",
    "test/legacy_test/op_test.py": "import unittest\n\n\nclass OpTest(unittest.TestCase):\n    pass\n",
    "test/legacy_test/test_word.py": (
        "import unittest\n\nimport paddle\nfrom op_test import OpTest\n\n\nclass Word(OpTest):\n"
        "    def test_word(self):\n        self.assertEqual(paddle.word(), 'base')\n\n"
        "    def test_value(self):\n        self.assertEqual(paddle.VALUE, 1)\n\n\n"
        "if __name__ == '__main__':\n    unittest.main()\n"
    ),
}


def package(folder: Path, value: int) -> None:
    """Write what a wheel of this small Paddle holds: its Python, a stand-in for its library, generated Python."""
    files = {name.removeprefix("python/"): text for name, text in PADDLE.items() if name.startswith("python/")}
    files |= {
        "paddle/base/libpaddle.so": "compiled\n",
        "paddle/base/generated.py": f"VALUE = {value}\n",
        "paddle/version/__init__.py": "full_version = '3.3.1'\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def paddle_env(tmp_path: Path) -> str:
    """An environment with that Paddle in it."""
    folder = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    package(next(folder.glob("lib/python*/site-packages")), 1)
    return str(folder)


def test_python_of_paddle_is_laid_over_a_wheel_and_the_environment_stays(tmp_path: Path, paddle_env: str) -> None:
    ledger = start(tmp_path, PADDLE)
    ledger.request(1, python__paddle__words_DOT_py="def word():\n    return 'request'\n")
    before = everything(Path(paddle_env))
    status, found = ledger.tried("1", env=paddle_env)
    after = {name: held for name, held in everything(Path(paddle_env)).items() if "__pycache__" not in name}
    assert after == {name: held for name, held in before.items() if "__pycache__" not in name}
    assert status == 4
    assert words(found) == {"Word::test_word": "broken", "Word::test_value": "still passing"}
    assert (found["overlay"]["version"], found["overlay"]["compiled"]) == ("3.3.1", [])


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder of CI's wheels, served on loopback in place of the server of Paddle's CI."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_compiled_code_comes_from_the_wheel_of_the_projects_ci(
    tmp_path: Path, paddle_env: str, shelf: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = start(tmp_path, PADDLE)
    ledger.request(2, paddle__phi__scale_DOT_cc="int scale = 2;\n")
    status, found = ledger.tried("2", env=paddle_env)
    assert (status, found["verdict"]) == (1, "undecided")
    assert found["reason"].startswith("paddle/phi/scale.cc must be compiled, and no wheel of it was found")

    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    name = f"paddlepaddle-0.0.0-{tag}-{tag}-linux_x86_64.whl"
    template = shelf[1] + "/{number}/{sha}/paddlepaddle-0.0.0-{python}-{python}-linux_x86_64.whl"
    monkeypatch.setenv("DEVKIT_TRY_WHEELS", template)
    ledger.request(2, paddle__phi__scale_DOT_cc="int scale = 2;\n", test__legacy_test__test_word_DOT_py=PADDLE[
        "test/legacy_test/test_word.py"].replace("VALUE, 1", "VALUE, 2"))  # fmt: skip
    place = shelf[0] / "2" / ledger.git("rev-parse", "refs/pull/2/head") / name
    place.parent.mkdir(parents=True)
    package(tmp_path / "unpacked", 2)
    with zipfile.ZipFile(place, "w") as archive:
        for path in sorted((tmp_path / "unpacked").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "unpacked"))
    status, found = ledger.tried("2", env=paddle_env)
    assert (status, found["verdict"]) == (0, "good"), found
    assert words(found) == {"Word::test_word": "still passing", "Word::test_value": "fixed"}
    assert any("CI built" in note for note in found["notes"])


@pytest.mark.slow
def test_a_bisection_takes_the_wheels_of_commits_where_they_are(
    tmp_path: Path, paddle_env: str, shelf: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = start(tmp_path, PADDLE)
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    commits = []
    for number in range(5):
        ledger.write({"paddle/phi/scale.cc": f"int scale = {number};\n"})
        ledger.git("commit", "-qam", f"Scale by {number}")
        commits.append(ledger.git("rev-parse", "HEAD"))
        place = shelf[0] / "0" / commits[-1] / f"paddlepaddle-0.0.0-{tag}-{tag}-linux_x86_64.whl"
        place.parent.mkdir(parents=True)
        package(tmp_path / "unpacked", 1 if number < 3 else 20)
        with zipfile.ZipFile(place, "w") as archive:
            for path in sorted((tmp_path / "unpacked").rglob("*.*")):
                archive.write(path, path.relative_to(tmp_path / "unpacked"))
    ledger.git("pull", "-q", cwd=ledger.clone)
    monkeypatch.setenv(
        "DEVKIT_TRY_WHEELS", shelf[1] + "/{number}/{sha}/paddlepaddle-0.0.0-{python}-{python}-linux_x86_64.whl"
    )
    line = ("bisect", "--good", commits[0], "--test", "test/legacy_test/test_word.py", "--env", paddle_env, "--json")
    status, text = fork_devkit(line, ledger.clone, tmp_path / "state")
    assert "{\n" in text, text
    found = json.JSONDecoder().raw_decode(text[text.index("{\n") :])[0]
    assert (status, found["first_bad"]) == (0, commits[3])


CUDA = "full_version = '3.3.1'\ncuda_version     = '12.6'\nhip_version = None\n"
CPU = "full_version = '3.3.1'\ncuda_version     = 'False'\nhip_version = None\nxpu_xre_version  = 'False'\n"


@pytest.mark.parametrize(("text", "built"), [(CUDA, "cuda"), (CPU, "cpu"), ("", "cpu"), (None, "")])
def test_a_wheel_of_ci_for_another_device_is_not_fetched(tmp_path: Path, text: str | None, built: str) -> None:
    if text is not None:
        place = tmp_path / "paddle" / "version" / "__init__.py"
        place.parent.mkdir(parents=True)
        place.write_text(text)
    assert accelerator(tmp_path / "paddle") == built
    names = ("paddlepaddle", "paddlepaddle_gpu")
    templates = [f"ftp://a/{{sha}}/{name}-0.0.0-{{python}}-{{python}}-linux_x86_64.whl" for name in names]
    app = SimpleNamespace(config={"try.wheels": templates})
    _, notes = find(app, 1, "abc", Python("a", "python", "3.11.7", purelib=str(tmp_path)))  # type: ignore[arg-type]
    refused = [note.split("-")[0] for note in notes if "another device" in note]
    assert refused == {"cuda": ["paddlepaddle"], "cpu": ["paddlepaddle_gpu"], "": []}[built]


def wheel_of(name: str, folder: Path) -> None:
    """Make a wheel of a package that is installed beside these tests."""
    found = importlib.metadata.distribution(name)
    told = (found.read_text("WHEEL") or "").splitlines()
    tag = next(row.partition(": ")[2] for row in told if row.startswith("Tag: "))
    place = folder / name / f"{name}-{found.version}-{tag}.whl"
    place.parent.mkdir(parents=True)
    with zipfile.ZipFile(place, "w") as archive:
        for path in found.files or ():
            if path.suffix != ".pyc" and ".." not in path.parts and path.name not in {"INSTALLER", "REQUESTED"}:
                archive.write(path.locate(), str(path))


def test_what_turns_out_to_be_missing_is_installed_and_the_tests_that_lacked_it_run_again(
    ledger: Ledger, shelf: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pytest", "coverage", "iniconfig", "packaging", "pluggy", "pygments"):
        wheel_of(name, shelf[0] / "simple")
    about, files = "prettytable-1.0.dist-info", {"prettytable.py": "def rows():\n    return 3\n"}
    files[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: prettytable\nVersion: 1.0\n"
    files[f"{about}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{about}/RECORD"] = ""
    (shelf[0] / "simple" / "prettytable").mkdir()
    with zipfile.ZipFile(shelf[0] / "simple" / "prettytable" / "prettytable-1.0-py3-none-any.whl", "w") as archive:
        for place, text in files.items():
            archive.writestr(place, text)
    monkeypatch.setenv("DEVKIT_ENV_INDEX_URL", f"{shelf[1]}/simple")
    # The tests themselves import nothing that is missing: only running them tells.
    lacks = MONEY.replace("    return a + b", "    import prettytable\n\n    return a + b + prettytable.rows() - 3")
    ledger.request(1, ledger__money_DOT_py=lacks)
    status, found = ledger.tried("1", env="")
    assert (status, found["verdict"]) == (0, "good"), found
    assert words(found) == {"Money::test_total": "still passing", "Money::test_mean_of_nothing": "still failing"}
    assert found["environment"] == "try-1"
    log = "".join(path.read_text() for path in (ledger.folder / "state").rglob("*uv*.log"))
    assert "prettytable" in log
