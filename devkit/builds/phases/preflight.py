"""Look at what would fail later; where the tools are those of the last time, and there is room, not again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from devkit.builds import preflight, state
from devkit.builds.findings import AGAIN_DISK_LEAST, judge
from devkit.builds.phases.step import BuildWork, Said, Step
from devkit.doctor.finding import tally
from devkit.errors import DevkitError
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from devkit.builds.inventory import Inventory

MEND = "devkit build preflight --fix"


def plan(inventory: Inventory, _will: AbstractSet[str]) -> Step:
    """Say whether the preflight is still that of the last time.

    Raises:
        DevkitError: something would fail the build.
    """
    app, request = inventory.app, inventory.request
    key = preflight.key(request.python.executable, request.python.purelib)
    has_room = inventory.stamp and shutil.disk_usage(request.build).free > AGAIN_DISK_LEAST
    if has_room and inventory.remembered("preflight").get("key") == key:
        return Step("preflight", skip="the tools are those of the last time")
    with app.console.progress("preflight"):
        facts = inventory.facts
        if any(submodule.missing for submodule in facts.submodules) and not request.offline:
            inventory.facts = facts = preflight.with_network(app, facts)
    fetched = {"submodules"} if "submodules" in request.phases else set()
    broken = [finding for finding in judge(facts) if finding.state == "broken" and finding.name not in fetched]
    if broken:
        first = broken[0]
        rest = (
            f"\n{counted(len(broken) - 1, 'more finding is', 'more findings are')} broken." if len(broken) > 1 else ""
        )
        raise DevkitError(
            f"the build would fail: {first.name}: {first.text}",
            f"{first.why}.{rest}",
            *([first.remedy] if first.remedy else []),
            *([] if first.remedy.startswith(MEND) else [f"{MEND}   shows all, and fixes what it safely can"]),
            "devkit build --from submodules   builds all the same",
        )
    return Step("preflight")


def execute(work: BuildWork, _step: Step) -> Said:
    """Remember that nothing would fail."""
    request = work.request
    key = preflight.key(request.python.executable, request.python.purelib)
    state.remember(request.build, "preflight", {"key": key})
    counts = tally(judge(work.inventory.facts))
    worth = f", {counts['warning']} to look at (devkit build preflight)" if counts["warning"] else ""
    return "done", f"{counts['fine']} fine{worth}"
