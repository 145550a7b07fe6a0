"""The remedies, typed: each against something that really has the fault, and then the line that failed runs through."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shlex
import ssl
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.builds.diagnosis import diagnose
from tests.commands.build_.conftest import tiny_wheel
from tests.devkit.builds.faults import (
    ADDED,
    CMAKE,
    LIBRARY,
    NINJA,
    TREE,
    UPDATE,
    VERSIONED,
    WARNS,
    Fault,
    bash,
    instead_of_devkit,
    typed,
)
from tests.servers import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

FAULTS = [
    Fault("dubious-ownership", "git init -q tree && chown -R 12345 tree", "git status"),
    Fault(
        "worktree-moved",
        f"{TREE}git worktree add -q ../beside && cd .. && mv tree moved",
        "git status",
        "beside",
        words={"REPOSITORY": "../moved"},
    ),
    Fault("git-lock", "git init -q tree && touch tree/.git/index.lock", "git add -A"),
    Fault("cmake-include", TREE, "cmake -P CMakeLists.txt"),
    Fault("submodule-broken", f"{TREE}{UPDATE}rm -rf .git/modules", "git -C third_party/lib status"),
    Fault(
        "submodule-not-listed",
        f"{TREE}git config -f .gitmodules --remove-section submodule.third_party/lib",
        "git submodule update --init third_party/lib",
    ),
    Fault(
        "no-tags",
        f'{TREE}cd .. && rm -rf tree && git clone -q --depth 1 --no-tags "file://$PWD/up" tree\n{VERSIONED}',
        "cmake -S . -B build",
    ),
    Fault(
        "line-ends",
        f"{TREE}printf '#!/bin/sh\\ncd .\\n' > run.sh && chmod +x run.sh && git add . && git commit -qm s\n"
        "git config core.autocrlf true && rm run.sh && git checkout -q -- run.sh",
        "./run.sh",
    ),
    Fault(
        "patch-twice",
        f"{TREE}{UPDATE}cd third_party/lib && echo 'set(b 1)' >> f.cmake && git diff > ../../p",
        "cd third_party/lib && git apply --check ../../p",
    ),
    Fault("truncated-object", f"{LIBRARY}make -s && rm m && head -c 90 libf.a > t && mv t libf.a", "make m", "."),
    Fault(
        "other-source",
        f"mkdir a && cd a\n{CMAKE}cmake -S . -B build > /dev/null && cd .. && mv a b",
        "cmake -S . -B ${BUILD_DIR:-build}",
        "b",
    ),
    Fault(
        "werror",
        f"{WARNS}{NINJA}",  # CMake reads the flags of the environment in an empty folder only
        f'[ "$PHASE" != --fresh ] || rm -rf build; {NINJA} && ninja -C build',
        ".",
    ),
    Fault(
        "missing-include",
        "echo 'uint64_t f(){return 1;}' > f.cc",
        "g++ $CXXFLAGS -c f.cc",
        ".",
        line="CXXFLAGS='-include cstdint' devkit build --fresh",
    ),
    Fault(
        "system-header",
        "mkdir -p opt/infiniband && touch opt/infiniband/ours.h && echo '#include <infiniband/ours.h>' > f.c",
        "gcc -c f.c",
        ".",
        line="CPATH=/FOLDER devkit build",
        words={"FOLDER": "$PWD/opt"},
    ),
    Fault(
        "link-error",
        "mkdir opt && echo 'int f(void){return 0;}' > f.c && gcc -shared -fPIC f.c -o opt/libours.so\n"
        "echo 'int f(void); int main(void){return f();}' > m.c",
        "gcc m.c -lours -o m",
        ".",
        line="LIBRARY_PATH=/FOLDER devkit build",
        words={"FOLDER": "$PWD/opt"},
    ),
    Fault(
        "linker-missing",
        'mkdir bin && for name in gcc as ld ld.bfd; do ln -s "$(command -v $name)" bin/; done\n'
        "echo 'int main(void){return 0;}' > m.c",
        "gcc ${LDFLAGS:--fuse-ld=gold} m.c -o m",
        ".",
        "PATH=$PWD/bin",
        "LDFLAGS=-fuse-ld=bfd devkit build --fresh",
    ),
    Fault(
        "relocation",  # a library grows by each architecture that it is built for
        "echo 'char a[GIB << 30], b[GIB << 30]; int main(int i, char **w){return a[i] + b[i];}' > m.c",
        "gib=5ul; [ -z $CUDA_ARCH ] || gib=1ul; gcc -DGIB=$gib m.c -o m",
        ".",
    ),
    Fault(
        "out-of-memory",  # what there is, is shared by the jobs
        "printf '#include <map>\\n#include <string>\\nstd::map<int, std::string> m;\\n' > f.cc",
        "ulimit -v $((640000 / ${JOBS:-10})) && g++ -c f.cc",
        ".",
    ),
    Fault(
        "text-encoding",
        "echo '飞桨' > a.txt",
        """python3 -c 'print(len(open("a.txt").read()))'""",
        ".",
        "export PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 LC_ALL=C",
    ),
    Fault(
        "open-files",
        "",
        """python3 -c 'import os; [os.open("/dev/null", 0) for _ in range(99)]'""",
        ".",
        "ulimit -Sn 20",
    ),
    Fault("submodule-empty", ADDED, "cmake -S . -B build"),
    Fault(
        "commit-not-there",
        f"git init -q -b main mirror && git -C mirror commit -q --allow-empty -m old\n{TREE}"
        'git submodule --quiet init && git config submodule.third_party/lib.url "file://$PWD/../mirror"',
        "git submodule update",
    ),
    Fault(
        "other-generator",
        f"{CMAKE}cmake -G 'Unix Makefiles' -S . -B build > /dev/null",
        "cmake -G Ninja -S . -B ${BUILD_DIR:-build}",
        ".",
    ),
    Fault(
        "ninja-file-broken",
        f"{CMAKE}{NINJA} && head -c 2000 build/build.ninja > t && mv t build/build.ninja",
        f'[ "$PHASE" != --fresh ] || {{ rm -rf build; {NINJA}; }}; ninja -C build',
        ".",
    ),
    Fault(
        "nothing-configured",
        f"{CMAKE}mkdir build",
        f'[ "$PHASE" != configure ] || {NINJA}; ninja -C build',
        ".",
    ),
    Fault("output-folder", "echo 'int main(void){return 0;}' > m.c", "gcc m.c -o bin/m", "."),
    Fault(
        "not-pic",
        "echo 'static int a[9]; int*f(void){return a;}' > f.c",
        "gcc ${CFLAGS:--fno-PIC} -c f.c && gcc -shared f.o -o libf.so",
        ".",
    ),
    Fault(
        "cxx11-abi",
        "printf '#include <string>\nint f(std::string s){return s.size();}\n' > f.cc\n"
        "printf '#include <string>\nint f(std::string);\nint main(){return f(std::string());}\n' > m.cc",
        "g++ ${CXXFLAGS:--D_GLIBCXX_USE_CXX11_ABI=0} -c f.cc && g++ m.cc f.o -o m",
        ".",
    ),
    Fault(
        "symlinks",
        f"{TREE}{UPDATE}mkdir cmake && ln -s ../third_party/lib/f.cmake cmake/f.cmake\n"
        "git add . && git commit -qm l && git config core.symlinks false && rm cmake/f.cmake && git checkout -q -- .\n"
        "echo kept >> CMakeLists.txt",
        "cmake -P cmake/f.cmake && tail -n 1 CMakeLists.txt | grep -q kept",
    ),
    Fault(
        "python-headers",
        "echo '#include <Python.h>' > f.c",
        "gcc -c f.c",
        ".",
        f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        """CPATH=$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["include"])') devkit build""",
    ),
    Fault(
        "cpplint",
        "printf 'int f();\n// TODO: later\n' > a.h\n"
        """printf '#!/bin/sh\nsed -i "${1##*:}s/TODO/TODO(me)/" "${1%%%%:*}"\n' > editor && chmod +x editor""",
        """awk '/TODO:/{no=1; print "a.h:" NR ":  Missing username  [readability/todo] [2]"} END{exit no}' a.h""",
        ".",
        "export EDITOR=./editor",
    ),
    Fault(
        "clock",
        "printf 'rule again\n  command = touch build.ninja\n  generator = 1\nbuild build.ninja: again x\n'"
        " > build.ninja\n"
        "touch -d '+1 hour' x",
        "ninja",
        ".",
    ),
    Fault(
        "compile-error",
        "printf 'int f(void)\n{\n  retrun 1;\n}\n' > f.c\n"
        """printf '#!/bin/sh\nsed -i "${1##*:}s/retrun/return/" "${1%%%%:*}"\n' > editor && chmod +x editor""",
        "gcc -c f.c",
        ".",
        "export EDITOR=./editor",
    ),
]
SMALL_DISK = Fault(
    "tmp-full",
    'mkdir tmp && mount -t tmpfs -o size=64k none tmp && awk \'BEGIN{print "int a[]={";'
    'for(i=0;i<60000;i++)print i","; print "0};"}\' > f.c',
    "gcc -c f.c",
    ".",
    "export TMPDIR=${TMPDIR:-$PWD/tmp}",
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.rule)
def test_a_remedy_that_is_typed_does_away_with_the_fault(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(fault, tmp_path, monkeypatch)


@pytest.mark.engine
def test_the_remedy_for_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(
        "ccache",
        "echo 'int f(void){return 0;}' > f.c",
        "ccache gcc -c f.c",
        ".",
        "export CCACHE_DIR=${CCACHE_DIR:-/proc/none}",
    )
    typed(fault, tmp_path, monkeypatch)


@pytest.mark.engine
def test_the_remedy_where_a_cache_stands_in_the_compilers_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(
        "ccache-as-compiler",
        "printf 'cmake_minimum_required(VERSION 3.18)\nproject(p C ASM)\nadd_library(s s.S)\n' > CMakeLists.txt\n"
        "printf '.globl f\nf: ret\n' > s.S",
        f"rm -rf build; {NINJA} && ninja -C build",
        ".",
        'export CC="${CC:-ccache gcc}"',
    )
    typed(fault, tmp_path, monkeypatch)


@pytest.mark.engine  # a small disk, which root mounts
def test_the_remedy_for_a_full_disk_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        typed(SMALL_DISK, tmp_path, monkeypatch)
    finally:
        bash("umount here/tmp", tmp_path)


TLS = """openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=Company
openssl req -newkey rsa:2048 -nodes -keyout key -out request -subj /CN=127.0.0.1
echo subjectAltName=IP:127.0.0.1 > names
openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -out pem -days 2 -extfile names
git init -q up && git -C up commit -q --allow-empty -m first && git clone -q --bare up up.git
git -C up.git update-server-info && mkdir -p simple/tiny
"""
TRUSTED = "export SSL_CERT_FILE=FILE PIP_CERT=FILE"
FETCHES = {
    "git": ("git ls-remote URL/up.git", "git config --global http.sslCAInfo FILE"),
    "cmake": ("cmake -P fetch.cmake", TRUSTED),
    "curl": ("curl -sSfO URL/fetch.cmake", TRUSTED),
    "uv": ("uv pip install -q --no-cache --target to -i URL/simple tiny", TRUSTED),
    "pip": (f"{sys.executable} -m pip download --no-cache-dir --retries 0 -d to -i URL/simple tiny", TRUSTED),
}


@contextlib.contextmanager
def serving_by_tls(folder: Path) -> Iterator[str]:
    """Serve a folder by https, with the certificate that lies there."""

    class Handler(Silent, http.server.SimpleHTTPRequestHandler):
        pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem", folder / "key")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who does not trust it breaks off
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(5)


@pytest.mark.engine  # openssl and curl
def test_the_remedy_for_a_certificate_is_heeded_by_each_tool_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    made = bash(f"set -e\n{TLS}", tmp_path)
    assert made.returncode == 0, made.stderr
    tiny_wheel(tmp_path / "simple" / "tiny", "tiny", "1.0", "tiny.py")
    (tmp_path / "simple" / "tiny" / "index.html").write_text('<a href="tiny-1.0-py3-none-any.whl">it</a>')
    with serving_by_tls(tmp_path) as address:
        (tmp_path / "fetch.cmake").write_text(
            f"set(CMAKE_TLS_VERIFY 1)\nfile(DOWNLOAD {address}/names got STATUS said)\nlist(GET said 0 status)\n"
            'if(status)\n  message(FATAL_ERROR "Download failed, error: ${said}")\nendif()\n'
        )
        for tool, (fails, line) in FETCHES.items():
            fetch = fails.replace("URL", address)
            failed = bash(fetch, tmp_path)
            assert failed.returncode != 0, tool
            cause = diagnose(f"{failed.stdout}{failed.stderr}").causes[0]
            assert cause.id == "certificate", failed.stderr
            fault = Fault("certificate", "", fetch, line=line, words={"FILE": str(tmp_path / "ca.pem")})
            gone = bash(instead_of_devkit(fault.typed(cause.remedy), fetch), tmp_path)
            assert gone.returncode == 0, f"{tool}: {gone.stderr}"
