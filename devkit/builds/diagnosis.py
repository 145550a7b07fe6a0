"""A log → the first true cause of a failure, by the table of rules.

What a program says last is seldom why it failed: CMake blames the network for a folder's owner, and ninja goes on for
minutes after the first error. So what was got over is left out (a retry that went well, a run before, a test that
passed), a message of CMake's is read as a whole, each rule knows which other rules are only its consequences, and what
tools say of any cause counts only where no cause is known.
"""

from __future__ import annotations

import re
import shlex
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds import logfile, outcome
from devkit.builds.good import shipped, template
from devkit.builds.ownership import is_foreign
from devkit.builds.remedy import Origin, origin_of
from devkit.builds.rules import CAUSE, CONSEQUENCE, LAST_RESORT, Rule, rules
from devkit.builds.units import BLOCK, Unit, read_units
from devkit.builds.unknown import Family, Unknown, unknown
from devkit.errors import GAP
from devkit.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

__all__ = ["Cause", "Diagnosis", "Evidence", "Family", "Unknown", "diagnose"]

HITS_OF_A_RULE = 200
PROGRESS = re.compile(
    r"\[\s*\d+/\d+\] (?:Building|Linking|Generating|Copying|Performing|Creating|No |Completed|Touch)|"
    r"\[\s*\d+%\] (?!.*\*\*\* )"
)
HARMLESS = re.compile(
    r"no tag exactly matches|-- Performing Test |-- Looking for |-- (?:WARNING|Warning)|[Ww]arning: |"
    r"CMake (?:Deprecation )?Warning|pip's dependency resolver does not|^note: This error originates|"
    r"Had to git clone more than once|(?:-W|\b)(?:no-)?error=|\berrors? (?:=|:) ?0\b|\b0 errors?\b|"
    r"-- Could NOT find (?!Python)|-Wno-error|"
    r"(?:error|errors|Error|exception|failed|fatal)[\w]*\.(?:cc|cu|h|py|o|cpp|hpp|cmake|c)\b(?!:\d|\(\d)"
)
PLACE = re.compile(r"[^\s:(]+\.(?:cc|cu|c|cpp|cxx|h|hpp|hxx|cuh|hh|inc|tcc|inl|ipp|hip|kps|S)(?=[:(])")
FAILED_STEP = re.compile(r"FAILED: |\*\*\* \[|^CMake Error")
LONGEST_EXCERPT = 400
EVIDENCE_SHOWN = 3
# Lines that differ in numbers alone: the first ones tell all that a wall of them does.
MOST_ALIKE = 100


@dataclass(frozen=True)
class Evidence:
    """A line of the log: its number from 1, and its text with credentials masked."""

    line: int
    text: str


@dataclass(frozen=True)
class Cause:
    """A cause that was found.

    Attributes:
        id: the rule's.
        line: its number in the log, from 1.
        text: the line itself, credentials masked.
        cause: what it means.
        remedy: the line to type.
        reference: where more of it is told.
        fix: what ``--retry`` would do about it, or nothing.
        consequences: the numbers of later lines that only follow from it.
        words: what the line tells by the names of the rule's pattern, as its file.
        family: of which kind it is, as ``network``.
        confidence: ``high`` for a cause, ``medium`` for what tools say of several, ``low`` where the log does not tell
            that anything failed.
        evidence: the lines that say so.
    """

    id: str
    line: int
    text: str
    cause: str
    remedy: str
    reference: str
    fix: str = ""
    consequences: tuple[int, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    confidence: str = "high"
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """What a log tells.

    Attributes:
        failed: whether it is of something that failed.
        causes: the true causes, the first one first; where the log does not say how it ended, those that it may have.
        first_error: where no rule knows the failure, its first error as ``(line, text)``.
        ended: ``failed``, ``well`` or ``unknown``, where nothing in it says how it ended.
        unknown: where no rule knows the failure, what is likely.
        origin: what the log is of, in whose words the remedies are.
    """

    failed: bool
    causes: tuple[Cause, ...]
    first_error: tuple[int, str] | None = None
    ended: str = "failed"
    unknown: Unknown | None = None
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True)
class Hit:
    """A rule that was found: at which byte of the log, in which line, in which failed step, with which words.

    ``harmless`` tells whether good logs hold such a line too.
    """

    rule: Rule
    start: int
    line: int
    step: int
    text: str
    words: Mapping[str, str]
    harmless: bool = False


def diagnose(
    log: str | bytes | Path,
    *,
    known: Sequence[Rule] | None = None,
    good: AbstractSet[str] | None = None,
    origin: Origin | None = None,
    progress: Callable[[float], None] | None = None,
) -> Diagnosis:
    """Return what a log tells: its causes, the first true one first, consequences left out.

    Args:
        log: the text, or its file, which may be packed; colours, times and steps before its lines do not matter.
        known: the rules; those of the table by default.
        good: templates of lines that good logs hold too; those that devkit brings by default.
        origin: what the log is of, where that is known; else it is told by what the log names.
        progress: told the share that is read, from 0 to 1.

    Raises:
        DevkitError: the file cannot be read, is empty or is not text.
    """
    known = rules() if known is None else known
    good = shipped() if good is None else good
    data = logfile.load(log) if isinstance(log, Path) else log.encode(errors="replace") if isinstance(log, str) else log
    origin = origin or origin_of(data)
    data = logfile.unquoted(data)
    units = list(read_units(data, progress))
    events = list(_events(units, good))
    ended = outcome.judge(events)
    hits = [replace(hit, harmless=template(hit.text) in good) for hit in _hits(units, known)]
    if ended.failed is None and any(not hit.rule.soft and not hit.harmless for hit in hits):
        ended = outcome.LogOutcome(True)
    if ended.failed is False:
        return Diagnosis(False, (), ended="well", origin=origin)
    if ended.failed is None:
        causes = tuple(replace(cause, confidence="low") for cause in _causes(hits, origin))
        return Diagnosis(False, causes, ended="unknown", origin=origin)
    hits = [hit for hit in hits if hit.start >= ended.begin]
    causes = _causes(_without_what_was_got_over(hits, events), origin)
    if causes:
        return Diagnosis(True, causes, origin=origin)
    said = [(unit.number, list(unit.texts)) for unit in units if unit.start >= ended.begin]
    unmatched = unknown(said, data, origin)
    first_error = unmatched.first_error if unmatched else None
    return Diagnosis(True, (), first_error, unknown=unmatched, origin=origin)


def alarms(data: bytes) -> list[str]:
    """Return the lines of a log that a rule names, or that say of something that it failed."""
    units = list(read_units(data))
    marked = [event.text for event in _events(units, frozenset()) if event.mark is outcome.Mark.FAULT]
    return [*marked, *(hit.text for hit in _hits(units, rules()))]


def _events(units: Iterable[Unit], good: AbstractSet[str]) -> Iterable[outcome.Event]:
    marks: dict[str, outcome.Mark | None] = {}
    for unit in units:
        alike = unit.heading if unit.heading.startswith("[") else unit.alike  # the last step is one by its numbers
        if alike not in marks:
            marks[alike] = outcome.mark(unit.heading)
        mark = marks[alike]
        if mark and not _is_harmless(unit.heading, mark, good):
            yield outcome.Event(unit.start, mark, unit.heading)


def _is_harmless(text: str, mark: outcome.Mark, good: AbstractSet[str]) -> bool:
    if mark is not outcome.Mark.FAULT or text.startswith("CMake Error"):
        return False
    return HARMLESS.search(text) is not None or template(text) in good


def _hits(units: Iterable[Unit], known: Sequence[Rule]) -> Iterable[Hit]:
    counts: dict[str, int] = {}
    seen: Counter[str] = Counter()
    step = 0
    for unit in units:
        step += bool(FAILED_STEP.search(unit.heading))
        seen[unit.alike] += 1
        if seen[unit.alike] > MOST_ALIKE:
            continue
        if PROGRESS.match(unit.heading) or (BLOCK.match(unit.heading) and not unit.heading.startswith("CMake Error")):
            continue
        warns = _is_warning(unit.heading)
        text = "\n".join(unit.texts)
        flat = re.sub(r"\s+", " ", text) if "\n" in text or "  " in text else text
        for rule in known:
            if counts.get(rule.id, 0) >= HITS_OF_A_RULE or (warns and not rule.notes):
                continue
            if rule.only_error_block and not unit.heading.startswith("CMake Error"):
                continue
            match = rule.search(text, flat)
            if match and _belongs(rule, match):
                counts[rule.id] = counts.get(rule.id, 0) + 1
                above = text.count("\n", 0, match.start())
                yield Hit(rule, unit.start, unit.number + above, step, unit.texts[above].strip(), _words(match))


def _is_warning(text: str) -> bool:
    return ("warning: " in text or " note: " in text or text.startswith(("note: ", "-- "))) and "error: " not in text


def _words(match: re.Match[str]) -> dict[str, str]:
    words = {name: redact(word.strip()) for name, word in match.groupdict().items() if word and word.strip()}
    if "number" in words:  # nvcc's FILE(LINE)
        words["place"] = f"{words['path']}:{words['number']}"
    return words


def _belongs(rule: Rule, match: re.Match[str]) -> bool:
    """Tell whether an error in code is of the kind that the rule is for: the user's own, or another's."""
    if rule.foreign is None:
        return True
    place = PLACE.search(match.string)
    return is_foreign(place[0] if place else "") == rule.foreign


def _without_what_was_got_over(hits: Sequence[Hit], events: Sequence[outcome.Event]) -> list[Hit]:
    """Leave out what was tried again and went well, and what tests printed that passed."""
    starts = [event.start for event in events]

    def follows(hit: Hit) -> bool:
        """Tell whether something failed after the hit before anything was well again."""
        for event in events[bisect_right(starts, hit.start - 1) :]:
            if event.mark in {outcome.Mark.RECOVERED, outcome.Mark.WELL}:
                return False
            if event.mark is outcome.Mark.STOP or (event.mark is outcome.Mark.FAULT and event.start > hit.start):
                if re.search("clone of '|unable to access '", event.text):
                    continue
                return True
        return not events or events[-1].mark is not outcome.Mark.RETRIED

    def passed(hit: Hit) -> bool:
        """Tell whether the next test that ended after the hit passed."""
        for event in events[bisect_right(starts, hit.start) :]:
            if event.mark is outcome.Mark.PASSED:
                return True
            if event.mark is outcome.Mark.STOP or re.search(r"\*\*\*(?:Failed|Timeout|Exception)", event.text):
                return False
        return False

    return [hit for hit in hits if not (hit.rule.soft and not follows(hit)) and not passed(hit)]


def _causes(hits: Sequence[Hit], origin: Origin) -> tuple[Cause, ...]:
    """Return the causes of hits: specific ones before what is said of any, each with what follows from it."""
    hits = _most_specific([hit for hit in hits if not hit.harmless] or hits)
    lowest = min((hit.rule.tier for hit in hits), default=CAUSE)
    floor = CONSEQUENCE if lowest < CONSEQUENCE else LAST_RESORT if lowest < LAST_RESORT else LAST_RESORT + 1
    kept = _without_weak([hit for hit in hits if hit.rule.tier < floor])
    found: dict[str, list[Hit]] = {}
    follow: dict[str, list[Hit]] = {}
    explained: dict[str, str] = {}
    order = sorted(kept, key=lambda hit: (hit.start, hit.rule.tier))
    for hit in order:
        if hit.rule.absorbs:
            for other in [one for one in found if one in hit.rule.explains and found[one][0].step == hit.step]:
                follow.setdefault(hit.rule.id, []).extend(found.pop(other))
        if hit.rule.id in explained and explained[hit.rule.id] in found:
            follow.setdefault(explained[hit.rule.id], []).append(hit)
            continue
        found.setdefault(hit.rule.id, []).append(hit)
        for name in hit.rule.explains:
            explained.setdefault(name, hit.rule.id)
    rest = [hit for hit in hits if hit.rule.tier >= floor]
    causes = []
    for number, same in enumerate(found.values()):
        later = [*follow.get(same[0].rule.id, ()), *(rest if number == 0 else ())]
        causes.append(_cause(same, later, origin))
    return tuple(causes)


def _without_weak(hits: Sequence[Hit]) -> list[Hit]:
    """Leave out what is mostly harmless where something else is known that does not follow from it."""
    strong = {hit.rule.id for hit in hits if not hit.rule.weak}
    return [hit for hit in hits if not hit.rule.weak or strong <= set(hit.rule.explains)]


def _most_specific(hits: Sequence[Hit]) -> list[Hit]:
    """Of hits in one line keep those of the lowest tier, and of these the ones that no other explains."""
    by_line: dict[int, list[Hit]] = {}
    for hit in hits:
        by_line.setdefault(hit.start, []).append(hit)
    found = []
    for same in by_line.values():
        lowest = min(hit.rule.tier for hit in same)
        of_it = [hit for hit in same if hit.rule.tier == lowest]
        explained = {name for hit in same for name in hit.rule.explains}
        kept = [hit for hit in of_it if hit.rule.id not in explained] or of_it[:1]
        found.append(kept[0])
    return found


def _cause(same: Sequence[Hit], later: Iterable[Hit], origin: Origin) -> Cause:
    hit = same[0]
    rule = hit.rule
    told = next((one.words for one in same if one.words), {})
    words = {**rule.defaults, **told}
    lines = sorted({one.line for one in later} - {hit.line})
    return Cause(
        rule.id,
        hit.line,
        _excerpt(hit.text),
        _filled(rule.cause, words),
        _line(rule.remedy_for(told, origin), words),
        rule.reference,
        rule.fix,
        tuple(lines),
        told,
        rule.family,
        "high" if rule.tier == CAUSE and not rule.soft else "medium" if rule.tier < CONSEQUENCE else "low",
        tuple(Evidence(one.line, _excerpt(one.text)) for one in same[:EVIDENCE_SHOWN]),
    )


def _excerpt(text: str) -> str:
    return redact(text.strip())[:LONGEST_EXCERPT]


def _line(remedy: str, words: Mapping[str, str]) -> str:
    """Return the line to type; what the log told is one word of it, whatever it holds."""
    line, gap, purpose = remedy.partition(GAP)
    quoted = {name: shlex.quote(word) for name, word in words.items()}
    return f"{_named(line, quoted)}{gap}{_filled(purpose, words)}"


def _named(words: str, values: Mapping[str, str]) -> str:
    """Put the values where ``{name}`` stands; what the log did not tell is the name in capitals."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1]) or match[1].upper(), words)


def _filled(words: str, values: Mapping[str, str]) -> str:
    """Put the values where ``{name}`` stands; what the log did not tell goes, with what stands around it alone."""
    said = re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], "\0"), words)
    said = re.sub(r"\0+(?=[^\s.,;:)\0])", "", re.sub(r" ?\(\0+\)", "", said))
    said = re.sub(r":? ?\0+", "", said)
    return re.sub(r" {2,}", " ", said).strip().removesuffix(":")
