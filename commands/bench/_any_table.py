"""The screen of any benchmark's run: its own table, or one of all its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.bench.charts import summary
from devkit.bench.report import cell
from devkit.commands.bench._outcome import warn_if_busy
from devkit.console import Column

if TYPE_CHECKING:
    from devkit.bench.report import Loaded
    from devkit.console import Console

# Which columns stay when a terminal is narrow.
FIRST = ("impl", "op", "pass", "form", "status", "median_ms", "gflops", "tokens_per_s", "gb_per_s", "seqlen_k", "bytes")


def show(console: Console, loaded: Loaded) -> None:
    """Show a run as its command did."""
    rows = loaded.report["results"]
    if loaded.command == "bench attn":
        from devkit.commands.bench._attention_table import show as own
    elif loaded.command == "bench sparse":
        from devkit.commands.bench._sparse_table import show as own
    elif loaded.command == "bench decode":
        from devkit.commands.bench._decode_table import show as own
    elif loaded.command == "bench comm":
        from devkit.commands.bench._comm_table import show as own
    elif loaded.command == "bench run":
        from devkit.commands.bench._script_table import show as own
    else:
        names = [name for (name,) in summary(rows) if name != "reason"]
        columns = [
            Column(name, "left" if isinstance(rows[0].get(name), str) else "right", 9 if name in FIRST else 3)
            for name in names
        ]
        console.table(columns, [[cell(row.get(name)) for name in names] for row in rows])
        return
    own(console, loaded.report)
    warn_if_busy(console, loaded.report)
