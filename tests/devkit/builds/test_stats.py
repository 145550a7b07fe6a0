"""Where a build's time went, by its log; and what a build folder's copy of the Python differs in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devkit.builds.ninja import Edge
from devkit.builds.stats import Cost, by_folder, by_header, compare, own_files, parse_deps, relative, summarize, trace
from devkit.builds.sync import Difference, apply, check_edited
from devkit.builds.sync import compare as compare_trees
from devkit.errors import DevkitError

EDGES = [
    Edge(0, 4000, "paddle/phi/CMakeFiles/phi.dir/a.cc.o", "a"),
    Edge(0, 4000, "paddle/phi/CMakeFiles/phi.dir/a.cc.d", "a"),
    Edge(0, 2000, "paddle/phi/CMakeFiles/phi.dir/b.cc.o", "b"),
    Edge(4000, 7000, "paddle/libphi.so", "l"),
]


def test_an_edge_that_all_waited_for_weighs_its_whole_length() -> None:
    found = summarize(EDGES)
    assert (found.wall_s, found.work_s, found.edges) == (7, 9, 3)
    assert found.parallelism == pytest.approx(9 / 7)
    assert [(cost.output.rpartition("/")[2], cost.seconds, cost.weighted_s) for cost in found.costs] == [
        ("libphi.so", 3, 3),
        ("a.cc.o", 4, 3),
        ("b.cc.o", 2, 1),
    ]
    assert sum(cost.weighted_s for cost in found.costs) == found.wall_s


def test_nothing_built_took_no_time() -> None:
    found = summarize([])
    assert (found.wall_s, found.edges, found.parallelism) == (0, 0, 0)


def test_time_is_summed_by_folder_without_cmakes_own() -> None:
    assert by_folder(summarize(EDGES).costs) == [Cost("paddle/phi", 6, 4), Cost("paddle", 3, 3)]


def test_a_header_costs_what_all_that_include_it_took() -> None:
    text = (
        "paddle/phi/CMakeFiles/phi.dir/a.cc.o: #deps 2, deps mtime 1 (VALID)\n    ../a.cc\n    ../core.h\n\n"
        "paddle/phi/CMakeFiles/phi.dir/b.cc.o: #deps 1, deps mtime 1 (VALID)\n    ../core.h\n\n"
        "gone.o: #deps 1, deps mtime 1 (STALE)\n    ../core.h\n"
    )
    assert by_header(summarize(EDGES).costs, parse_deps(text)) == [("../core.h", 2, 6.0)]


def test_what_lies_in_the_build_folder_is_named_from_there_and_headers_of_the_system_are_left_out() -> None:
    stamp = "third_party/glog/src/extern_glog-stamp/extern_glog-build"
    edges = [Edge(0, 1000, f"/p/build/{stamp}", "g"), Edge(0, 1000, "/elsewhere/x", "e"), EDGES[0]]
    assert [edge.output for edge in relative(edges, Path("/p/build"))] == [stamp, "/elsewhere/x", EDGES[0].output]
    deps = {EDGES[0].output: ["../core.h", "/p/paddle/enforce.h", "/usr/include/stdio.h", "gen/x.h", "/px/y.h"]}
    assert own_files(deps, Path("/p/build"), Path("/p")) == {
        EDGES[0].output: ["core.h", "paddle/enforce.h", "build/gen/x.h"]
    }


def test_a_trace_has_a_lane_a_job() -> None:
    events = trace([EDGES[0], EDGES[2], EDGES[3]])
    assert [(event["tid"], event["ts"], event["dur"]) for event in events] == [
        (0, 0, 2_000_000), (1, 0, 4_000_000), (0, 4_000_000, 3_000_000),
    ]  # fmt: skip


def test_two_builds_are_compared_by_their_outputs() -> None:
    after = summarize([Edge(0, 1000, EDGES[0].output, "a"), Edge(0, 100, "new.o", "n")])
    rows = compare(summarize(EDGES[:1]), after)
    assert rows == [(EDGES[0].output, 4.0, 1.0), ("new.o", None, 0.1)]


def test_a_copy_that_was_edited_is_refused_and_an_old_one_is_copied(tmp_path: Path) -> None:
    tree, copies = tmp_path / "tree", tmp_path / "copies"
    for folder in (tree, copies):
        folder.mkdir()
    for name, ours, theirs, copy_is_newer in (
        ("same.py", "x", "x", True),
        ("old.py", "new", "old", False),
        ("edited.py", "tree", "edit", True),
    ):
        (tree / name).write_text(ours)
        (copies / name).write_text(theirs)
        os.utime(tree / name, (1000, 1000))
        os.utime(copies / name, (2000, 2000) if copy_is_newer else (500, 500))
    (tree / "sub").mkdir()
    (tree / "sub" / "new.py").write_text("n")
    found = compare_trees(["same.py", "old.py", "edited.py", "sub/new.py"], tree, copies)
    assert found == Difference(("old.py", "sub/new.py"), ("edited.py",))
    with pytest.raises(DevkitError, match="edited in the build folder") as caught:
        check_edited(found, tree, copies)
    assert caught.value.remedies[0].startswith(f"cp {copies / 'edited.py'} {tree / 'edited.py'}")
    apply(found.copy, tree, copies)
    assert compare_trees(["same.py", "old.py", "sub/new.py"], tree, copies) == Difference((), ())
