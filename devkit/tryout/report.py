"""A trial's report: as JSON holds it, as Markdown for the review, and as a page."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from devkit.text import significant

if TYPE_CHECKING:
    from devkit.tryout.benchmarks import Timing
    from devkit.tryout.verdict import Verdict

SIGNS = {"good": "✅", "bad": "❌", "undecided": "❔"}
ORDER = ("broken", "flaky", "still failing", "fixed", "new", "still passing", "not run")
ROWS, LEFT = 200, 8


@dataclass(frozen=True)
class Result:
    """What a trial came to.

    Attributes:
        coverage: the changed lines that can run and those that ran, by file; None where they were not counted.
        over: what the sides' compiled code is, for Paddle.
        left: concerned test files that were not run, because there are more than were asked for.
        files: of each test file the seconds and the log, by side.
    """

    number: int
    verdict: Verdict
    head: str
    base: str
    folder: str
    environment: str
    coverage: dict[str, Any] | None = None
    bench: tuple[Timing, ...] = ()
    over: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    chosen: tuple[dict[str, str], ...] = ()
    fetch: dict[str, Any] = field(default_factory=dict)
    files: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "number": self.number,
            "verdict": self.verdict.kind,
            "reason": self.verdict.reason,
            "tests": [asdict(test) for test in self.verdict.tests],
            "coverage": self.coverage,
            "bench": [asdict(timing) for timing in self.bench],
            "overlay": self.over,
            "folder": self.folder,
            "environment": self.environment,
            "base": self.base,
            "head": self.head,
            "chosen": list(self.chosen),
            "not_chosen": list(self.left),
            "notes": list(self.notes),
            "fetch": self.fetch,
            "test": {"over": (self.over or {}).get("version", self.environment), "tests": list(self.files)},
        }


def from_dict(data: dict[str, Any]) -> Result:
    """Return the result that ``as_dict`` wrote down."""
    from devkit.tryout.benchmarks import Timing
    from devkit.tryout.verdict import Judged, Verdict

    tests = tuple(Judged(**test) for test in data["tests"])
    bench = tuple(
        Timing(**{**timing, "base_s": tuple(timing["base_s"]), "request_s": tuple(timing["request_s"])})
        for timing in data["bench"]
    )
    return Result(
        data["number"],
        Verdict(data["verdict"], data["reason"], tests),
        data["head"],
        data["base"],
        data["folder"],
        data["environment"],
        data["coverage"],
        bench,
        data["overlay"],
        tuple(data["notes"]),
        tuple(data["not_chosen"]),
        tuple(data["chosen"]),
        data["fetch"],
        tuple(data["test"]["tests"]),
    )


def counts(result: Result) -> dict[str, int]:
    """Return word → how many tests have it, in the order of what matters."""
    tests = result.verdict.tests
    return {word: number for word in ORDER if (number := sum(test.verdict == word for test in tests))}


def remarks(result: Result) -> list[tuple[str, str]]:
    """Return what a report says below its tests: sentences, each with ``✓``, ``✗``, ``!`` or nothing before it."""
    found = []
    if result.coverage and result.coverage["changed"]:
        share = significant(100 * result.coverage["covered"] / result.coverage["changed"])
        found.append(("", f"{share} % of {result.coverage['changed']} changed lines of Python ran"))
    for timing in result.bench:
        if timing.verdict == "failed":
            found.append(("!", f"{timing.name}: {timing.reason}"))
        else:
            found.append(("✗" if timing.verdict == "slower" else "✓", f"{timing.verdict}: {timing.sentence}"))
    found += [("!", note) for note in result.notes]
    if result.left:
        more = f" and {len(result.left) - LEFT} more" if result.left[LEFT:] else ""
        count = f"--tests {len(result.left)} more"
        found.append(("", f"not run, though concerned ({count}): {', '.join(result.left[:LEFT])}{more}"))
    return found


def markdown(result: Result) -> str:
    """Return the report for a review."""
    lines = [
        f"### {SIGNS[result.verdict.kind]} {result.verdict.kind}: {_plain(result.verdict.reason)}",
        "",
        f"`devkit pr try {result.number}`, {result.head[:10]} against {result.base[:10]}.",
        "",
    ]
    if result.verdict.tests:
        lines += ["| test | base | request | verdict |", "|---|---|---|---|"]
        shown = sorted(result.verdict.tests, key=lambda judged: ORDER.index(judged.verdict))
        for judged in shown[:ROWS]:
            name = f"`{judged.file}`" + (f" `{judged.test}`" if judged.test else "")
            why = f": {_plain(judged.reason)}" if judged.reason and judged.verdict != "fixed" else ""
            lines.append(f"| {name} | {judged.base} | {judged.request} | **{judged.verdict}**{why} |")
        lines += [f"| … and {len(shown) - ROWS} more | | | |"] if len(shown) > ROWS else []
        lines.append("")
    lines += [f"- {_plain(text)}" for _, text in remarks(result)]
    return "\n".join(lines).rstrip() + "\n"


def _plain(text: str) -> str:
    """Return text in which a stranger's words make no markup of their own."""
    flat = " ".join(text.split())
    for sign in "\\`*_|<>[]":
        flat = flat.replace(sign, f"\\{sign}")
    return flat.replace("@", "@\u200b")  # nobody is notified


def page(result: Result) -> str:
    """Return the report as an HTML page that needs nothing else."""
    from pathlib import Path

    import jinja2

    folder = Path(__file__).parent.parent / "templates" / "tryout"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True)
    shown = sorted(result.verdict.tests, key=lambda judged: ORDER.index(judged.verdict))
    return environment.get_template("report.html").render(
        result=result, tests=shown, counts=counts(result), remarks=remarks(result)
    )
