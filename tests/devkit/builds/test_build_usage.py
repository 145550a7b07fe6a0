"""What ccache and the kernel tell of a build."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from devkit.builds import ccache, memory
from devkit.builds.ccache import Ccache

REPOSITORY = Path(__file__).parents[3]
LOG = """\
# /paddle/a.cc
cache_miss
direct_cache_miss
local_storage_miss
preprocessed_cache_miss
# /paddle/b.cc
direct_cache_hit
local_storage_hit
# /paddle/c.cc
direct_cache_miss
preprocessed_cache_hit
primary_storage_hit
# /paddle/d.cc
compile_failed
direct_cache_miss
preprocessed_cache_miss
# a.o
called_for_link
# b.o
called_for_link
# /paddle/half.cc
"""


def test_each_call_of_a_log_ends_once() -> None:
    found = ccache.parse_log(LOG)
    assert found == Ccache(1, 1, 1, {"compile_failed": 1, "called_for_link": 2, "unknown": 1}, alone=True)
    assert (found.hits, found.compilations, found.calls) == (2, 3, 7)
    assert ccache.parse_log("") == Ccache()
    assert ccache.from_dict(found.as_dict()) == found


def test_counters_of_an_older_ccache_tell_by_their_difference() -> None:
    before = ccache.parse_counters(
        "stats_updated_timestamp\t5\ndirect_cache_hit\t7\ncache_miss\t4\ncalled_for_link\t1\n"
    )
    after = ccache.parse_counters(
        "stats_updated_timestamp\t9\ndirect_cache_hit\t9\ndirect_cache_miss\t4\ncache_miss\t4\n"
        "preprocessed_cache_hit\t1\ncalled_for_link\t2\nfiles_in_cache\t99\ncache_size_kibibyte\t70\n"
    )
    found = ccache.between(before, after)
    assert found == Ccache(2, 1, 0, {"called_for_link": 1}, alone=False)
    assert ccache.between(after, after).calls == 0
    assert ccache.added(found, found) == Ccache(4, 2, 0, {"called_for_link": 2}, alone=False)


def test_programs_below_a_process_are_sampled_together_and_the_largest_is_named() -> None:
    hold = "import time; held = bytearray(60 << 20); time.sleep(1.5)"
    two = "import subprocess, sys; [child.wait() for child in [subprocess.Popen(sys.argv[1:]) for _ in range(2)]]"
    process = subprocess.Popen([sys.executable, "-c", two, sys.executable, "-c", hold])
    with memory.sampled(process.pid) as found:
        assert process.wait() == 0
    (took,) = found
    assert took.samples >= 2
    assert 120 < took.together_mib < 300
    assert 60 < took.largest_mib < took.together_mib
    assert took.largest_name.startswith("python")
    assert memory.from_dict(took.as_dict()) == took


FRESH = """
import subprocess, sys
from devkit.builds import memory
code = "held = bytearray(100 << 20)"
process = subprocess.Popen([sys.executable, "-c", code])
with memory.sampled(process.pid) as found:
    process.wait()
assert found[0].largest_mib > 100, found
assert found[0].largest_from == "kernel", found
process = subprocess.Popen([sys.executable, "-c", ""])
with memory.sampled(process.pid) as found:
    process.wait()
assert found[0].largest_from == "samples", found
"""


def test_a_program_that_is_over_before_a_sample_is_known_to_the_kernel_unless_an_earlier_one_was_larger() -> None:
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr


def test_parts_of_a_build_keep_the_fuller_of_each() -> None:
    one = memory.BuildMemory(500, 3, 200, "kernel", "cc1plus")
    two = memory.BuildMemory(300, 4, 250, "samples", "ld")
    assert memory.fuller(one, two) == memory.BuildMemory(500, 7, 250, "samples", "ld")
    assert memory.fuller(memory.BuildMemory(), one) == one


def test_a_process_that_is_gone_leaves_no_samples() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    time.sleep(0.5)
    with memory.sampled(process.pid) as found:
        process.wait()
    assert found[0].samples == 0
