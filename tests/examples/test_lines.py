"""Every line of devkit in README, the pages and --help can be typed: each is parsed, and what is safe here is run."""

from __future__ import annotations

import contextlib
import html
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer._click.exceptions import MissingParameter

from devkit.app import App
from devkit.commands._cli import pictures, tree
from devkit.commands._cli.typer_command import load
from tests.commands.pr.random_clones import fork_devkit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Devkit

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "README.zh-CN.md"])
BLOCK = re.compile(r"^```\w*\n(.*?)^```|^((?: {4}.*\n)+)", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^ *(?:\$ )?(devkit .*)$", re.MULTILINE)
EXAMPLE = re.compile(r"^Example: +(devkit .*)$", re.MULTILINE)
INLINE = re.compile(r"`(devkit [^`]+)`")
SYNOPSIS = re.compile(r"\w\|\w| \| |…|\[[a-z]|\bCOMMAND\b")
CHINESE = "\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"

# Lines that are run, one after another, in a clone of a small project, as they stand in the pages and in --help; what
# does not begin with devkit makes what the next one wants.
WALK = """
devkit config set proxy.bypass .bcebos.com
devkit config show
devkit config set proxy.bypass localhost,127.0.0.1,.example.com
devkit config get runs.keep
devkit config unset runs.keep
devkit build profiles
devkit train mesh '[[[0,1],[2,3]],[[4,5],[6,7]]]' dp,mp,pp
devkit train mesh '[[[0,1],[2,3]],[[4,5],[6,7]]]' dp,pp,mp
devkit train plan --size qwen2-7b --nproc 8 --mp 2 --gpu-memory 80G
devkit train plan --nproc 4 --pp 4 --accumulate 8
devkit env list
devkit net
devkit new trainer my_model
devkit new editor
devkit op new gated_unit
devkit wip save
devkit pr remotes
devkit pr fetch 7
devkit pr show 7
devkit pr rebase 7
devkit pr fetch 1007
devkit pr show 1007
devkit pr diff 1007 --stat
devkit pr list
devkit pr rebase 1007
devkit undo --list
devkit undo
devkit redo
devkit pr start fix-softmax
devkit pr start more-tests --on fix-softmax
devkit wip list
devkit wip restore
devkit check --fast --body request.md
devkit check
devkit pr sync
devkit pr drop 1007
devkit pr drop 7
devkit pr fetch 1007 --worktree
devkit pr clean
devkit config set proxy.url http://10.1.2.3:8080
devkit config set env.index-url https://mirror.example.com/simple
devkit runs clean --keep 20
devkit runs list --command bench
devkit runs show last
devkit explain error.log
devkit build doctor build.log
devkit train plan --nproc 8 --sweep
devkit train plan --engine auto --nproc 4 --mp 2 --pp 2
devkit train plan --size qwen2-7b --dtype bf16 --nproc 8 --gpu-memory 80G
devkit pr rebase 8
devkit pr abort
devkit pr rebase 8
git checkout --theirs later.py
git add later.py
devkit pr continue
devkit undo
devkit pr skip
devkit pr start fix-diff
sed -i s/1/2/ python/paddle/nn/layer.py
devkit wip save python/paddle -m "half a refactoring"
sed -i s/1/3/ python/paddle/nn/layer.py
devkit wip save
devkit wip show 2
devkit wip diff 2 --stat
devkit wip restore --from 2 python/paddle/nn
git commit -q -a -m One
git commit -q --allow-empty -m Two
devkit pr squash -m "Fix softmax of empty tensors"
git commit -q --allow-empty -m Three
devkit pr squash
devkit pr push
devkit pr rebase
devkit pr rebase --onto upstream/release/3.0
sed -i s/=/==/ python/paddle/nn/layer.py
devkit wip save python/paddle -m "half a refactoring"
devkit wip drop 2
devkit wip restore --markers
git branch my-fix
git push -q fork my-fix
devkit pr drop my-fix --remote
devkit pr clean --remote
""".strip().splitlines()
STATUSES = {
    "devkit explain error.log": 4,
    "devkit build doctor build.log": 4,
    "devkit pr rebase 8": 1,  # it conflicts
    "devkit train plan --engine auto --nproc 4 --mp 2 --pp 2": 4,
    "devkit train plan --size qwen2-7b --dtype bf16 --nproc 8 --gpu-memory 80G": 4,  # it does not fit
}
RUN = [line for line in WALK if line.startswith("devkit ")]
# Lines that want Paddle, run in a clone that has a .venv with it.
RUN_WITH_PADDLE = """
devkit api paddle.distributed.parallelize
devkit op show relu
devkit op new gated_unit
devkit op check gated_unit
devkit op check paddle.nn.functional.relu
devkit env show .venv
devkit bisect --good v1.0 -- python -m pytest tests/test_a.py
devkit bisect --good v1.0 --test tests/test_a.py
devkit align model.py:model@HEAD~1 model.py
devkit launch --nproc 2 -- train.py --lr 1e-3
devkit launch train.py --lr 1e-3
devkit launch --dry-run --nproc 2 -- train.py
devkit launch --no-guard -- train.py
devkit bench run --budget 10 -- my_kernel.py:forward
devkit bench report last
devkit bench report last --markdown
devkit bench report last --html report.html
devkit train --size tiny --steps 20
""".strip().splitlines()
# What other examples need, which is not here or takes too long; each command has tests of its own.
NEEDS = {
    "a package index or an environment": (
        "env create", "env install", "env uninstall", "env upgrade", "env clone", "env freeze", "env remove",
        "env bundle", "env show", "env doctor", "env adopt", "env run", "env shell", "pr try", "bisect", "align", "api",
        "op show", "op check",
    ),
    "a container engine": ("env commit", "env cp", "env images", "env logs", "env stop"),
    "a tree of Paddle": (
        "build", "build preflight", "build deps", "build deps export", "build deps import", "build overlay",
        "build test", "build stats", "build sync", "build clean", "build doctor",
    ),
    "Paddle, and minutes": (
        "train", "train compare", "train export", "train replay", "train report", "train sample", "bench attn",
        "bench calibrate", "bench comm", "bench compare", "bench decode", "bench report", "bench run", "bench sparse",
        "bench train", "launch",
    ),
    "another machine": ("send", "recv", "get", "serve", "net"),
    "the network": ("doctor", "pr checks", "pr create"),
    "a repository in another state": (
        "pr push", "pr continue", "pr skip", "pr abort", "pr squash", "pr clean", "wip show", "wip diff", "wip drop",
    ),
    "a shell that reads it": ("completion", "runs clean"),
}  # fmt: skip


def nodes(node: tree.Node = tree.ROOT) -> Iterator[tree.Node]:
    if node.own_command:
        yield node
    for child in node.children().values():
        yield from nodes(child)


def lines_of(text: str) -> list[str]:
    """Return the lines that stand in a page's blocks, without comments; a synopsis is no line to type."""
    found = [row for one, other in BLOCK.findall(text) for row in LINE.findall(one or other)]
    plain = [re.split(r" {2,}| # ", row)[0].rstrip() for row in found]
    return [row for row in plain if not SYNOPSIS.search(row)]


def examples() -> list[tuple[str, str]]:
    """Return where a line stands, and the line."""
    pages = [path for path in PAGES if path.name != "commands.md"]  # it is made from the help
    found = [(path.name, word) for path in pages for word in lines_of(path.read_text("utf-8"))]
    for node in nodes():
        found += [(f"--help of {' '.join(node.words)}", example) for example in EXAMPLE.findall(load(node).help or "")]
    return list(dict.fromkeys(found))


EXAMPLES = examples()
LINES = {line for _, line in EXAMPLES}


def parts_of(line: str) -> list[list[str]]:
    """Return the lines of devkit in a line of a shell, as words after ``devkit``."""
    found = []
    for part in re.split(r" && ", line):
        typed = shlex.split(part)
        typed = typed[: typed.index(">>")] if ">>" in typed else typed
        if typed[0] == "devkit":
            found.append(typed[1:])
    return found


@pytest.mark.parametrize("where", sorted({where for where, _ in EXAMPLES}))
def test_every_example_is_a_line_that_its_command_takes(where: str) -> None:
    for line in (example for at, example in EXAMPLES if at == where):
        for words in parts_of(line):
            node, rest = tree.resolve(words)
            assert node.own_command, line
            context = load(node).make_context(" ".join(("devkit", *node.words)), rest, obj=App())
            assert context.params is not None, line


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "commands.md"], ids=lambda path: path.name)
def test_a_line_within_a_sentence_is_one_that_its_command_takes(path: Path) -> None:
    """Only what a command cannot do without may be left out where it is spoken of."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for line in {" ".join(row.split()) for row in INLINE.findall(text) if not SYNOPSIS.search(row)}:
        for words in parts_of(line):
            node, rest = tree.resolve(words)
            assert node.own_command or not rest, line
            if node.own_command:
                with contextlib.suppress(MissingParameter) if not rest else contextlib.nullcontext():
                    load(node).make_context("devkit", rest, obj=App())


def test_every_example_is_run_or_says_what_it_needs() -> None:
    needing = {name for names in NEEDS.values() for name in names}
    known = {" ".join(node.words) for node in nodes()}
    assert needing <= known
    assert set(RUN) | set(RUN_WITH_PADDLE) <= LINES
    for line in LINES - set(RUN) - set(RUN_WITH_PADDLE):
        for words in parts_of(line):
            node, _ = tree.resolve(words)
            name = " ".join(node.words)
            assert name in needing, f"{line}: run it here, or say what it needs"


def test_every_command_has_an_example() -> None:
    shown = {tree.resolve(words)[0].words for line in LINES for words in parts_of(line)}
    plain = {"config path", "runs open", "redo", "env activate"}  # the last one's begins with eval
    assert {" ".join(node.words) for node in nodes() if node.words not in shown} - plain == set()


CONFLICTING = 8


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a small project with three requests, of which one conflicts with the base, and a fork."""
    forge, folder = tmp_path / "project", tmp_path / "clone"
    git(tmp_path, "init", "-q", "-b", "develop", str(forge))
    (forge / "python" / "paddle" / "nn").mkdir(parents=True)
    (forge / "python" / "paddle" / "nn" / "layer.py").write_text("z = 1\n")
    (forge / "money.py").write_text("def add(a, b):\n    return a + b\n")
    git(forge, "add", "-A")
    git(forge, "commit", "-q", "-m", "Begin")
    git(forge, "branch", "release/3.0")
    git(tmp_path, "clone", "-q", "--bare", str(forge), str(tmp_path / "fork.git"))
    for number in (7, 8, 1007):
        git(forge, "switch", "-q", "-c", f"request{number}")
        (forge / ("later.py" if number == CONFLICTING else f"more{number}.py")).write_text("x = 1\n")
        git(forge, "add", "-A")
        git(forge, "commit", "-q", "-m", f"Request {number}")
        git(forge, "update-ref", f"refs/pull/{number}/head", "HEAD")
        git(forge, "switch", "-q", "develop")
    (forge / "later.py").write_text("y = 1\n")
    git(forge, "add", "-A")
    git(forge, "commit", "-q", "-m", "Later")
    git(tmp_path, "clone", "-q", "-o", "upstream", str(forge), str(folder))
    git(folder, "remote", "add", "fork", str(tmp_path / "fork.git"))
    git(folder, "fetch", "-q", "fork")
    (folder / "request.md").write_text("It adds.\n")
    for name in ("error.log", "build.log"):
        (folder / name).write_text(
            "c++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.\n"
        )
    return folder


def test_what_is_safe_is_run_as_it_stands(clone: Path, tmp_path: Path) -> None:
    fork_devkit(("pr", "fetch", "8"), clone, tmp_path / "state")
    for line in WALK:
        if line not in RUN:
            subprocess.run(shlex.split(line), cwd=clone, check=True, capture_output=True, timeout=60)
            continue
        status, said = fork_devkit(tuple(shlex.split(line)[1:]), clone, tmp_path / "state")
        assert status == STATUSES.get(line, 0), f"{line}\n{said}"
        assert said.strip() or "set" in line, line


@pytest.mark.slow
def test_what_wants_paddle_is_run_as_it_stands(devkit: Devkit, clone: Path) -> None:
    (clone / ".venv").symlink_to(sys.prefix)
    (clone / ".git" / "info" / "exclude").write_text(".venv\n")
    files = {
        "model.py": "import paddle\n\n\ndef model():\n    return paddle.nn.Linear(2, 2)\n\n\n"
        "def inputs():\n    import numpy\n\n    return [numpy.ones((1, 2), 'float32')]\n",
        "train.py": "import sys\n\nassert sys.argv[1:] in ([], ['--lr', '1e-3'])\n",
        "my_kernel.py": "import paddle\n\n\ndef forward():\n    return paddle.ones([64, 64]).sum()\n",
        "tests/test_a.py": "from money import add\n\n\ndef test_a():\n    assert add(1, 2) == 3\n",
    }
    for name, text in files.items():
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text(text)
    for message, sign in (("Begin", "+"), ("More", "+"), ("Break", "-")):
        (clone / "money.py").write_text(f"def add(a, b):\n    return a {sign} b\n")
        git(clone, "add", "-A")
        git(clone, "commit", "-q", "--allow-empty", "-m", message)
        if message == "Begin":
            git(clone, "tag", "v1.0")
    for line in RUN_WITH_PADDLE:
        said = devkit(*shlex.split(line)[1:], cwd=clone, limit_s=600)
        assert said.status == 0, f"{line}\n{said.out}\n{said.err}"


@pytest.mark.parametrize("path", [page for page in PAGES if "zh" in page.name], ids=lambda path: path.name)
def test_a_chinese_page_has_no_line_break_within_a_sentence(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(rf"[{CHINESE}]\n[{CHINESE}]", text)


# Of SVG 1.1, which librsvg knows whole: no foreignObject, no script, no variable of CSS, nothing that is fetched.
DRAWN = {
    "svg", "style", "defs", "clipPath", "g", "rect", "circle", "line", "polyline", "polygon", "text", "image", "title",
}  # fmt: skip


def test_pictures_hold_where_a_viewer_is_no_browser() -> None:
    for path in ROOT.glob("docs/**/*.svg"):
        text = path.read_text("utf-8")
        assert re.search(r'xml:space="preserve"|white-space: *pre', text), path.name
        assert not re.search(r"var\(--|url\((?!['\"]?#)|@import|on\w+=", text), path.name
        root = ET.fromstring(text)  # noqa: S314 - our own
        for element in root.iter():
            assert element.tag.removeprefix("{http://www.w3.org/2000/svg}") in DRAWN, path.name
            links = [value for name, value in element.attrib.items() if name.endswith("href")]
            assert all(link.startswith(("#", "data:image/png;base64,")) for link in links), path.name


def test_every_picture_of_a_run_stands_on_a_page_and_has_two_palettes() -> None:
    pages = "".join(path.read_text("utf-8") for path in PAGES)
    drawn = {path.stem: path.read_text("utf-8") for path in ROOT.glob("docs/pictures/*.svg")}
    assert set(drawn) == {*pictures.DRAWN, *(picture.name for picture in pictures.PICTURES)}
    for name, text in drawn.items():
        assert f"(pictures/{name}.svg)" in pages
        assert "prefers-color-scheme: dark" in text


@pytest.mark.slow
def test_the_pictures_are_drawn_from_real_runs(tmp_path: Path) -> None:
    pictures.main(tmp_path / "out", "undo", "check", "mesh", "explain", "map", "curve")
    text = html.unescape((tmp_path / "out" / "undo.svg").read_text("utf-8")).replace("\xa0", " ")
    assert "$ devkit pr rebase" in text
    assert "devkit redo" in text
    curve = ET.fromstring((tmp_path / "out" / "curve.svg").read_text("utf-8"))  # noqa: S314 - our own
    one, two = (
        [float(number) for number in re.split("[ ,]", line.get("points", ""))]
        for line in curve.iter("{http://www.w3.org/2000/svg}polyline")
    )
    assert one == pytest.approx(two, abs=0.11)  # in pixels, rounded: sharding changes no loss


@pytest.mark.engine  # Chromium
def test_the_page_of_a_share_is_drawn_light_and_dark(tmp_path: Path) -> None:
    pictures.main(tmp_path, "share")
    root = ET.fromstring((tmp_path / "share.svg").read_text("utf-8"))  # noqa: S314 - our own
    shots = {image.get("class"): image.get("href") for image in root.iter("{http://www.w3.org/2000/svg}image")}
    assert set(shots) == set(pictures.SCHEMES)
    assert shots["day"] != shots["night"]


def test_progress_is_not_a_part_of_a_picture() -> None:
    text = "\n\x1b[2K\x1b[32m\u2819\x1b[0m reading 0:00:00\n\x1b[?25h\n\x1b[31mno\x1b[0m\n\x1b[1A\x1b[2K  yes\n"
    assert pictures.screen(text) == ["\x1b[31mno\x1b[0m", "  yes", ""]
