#!/bin/sh
# Install devkit for one user: no root, and no Python of this machine's is needed or changed.
#
#     curl -fsSL URL/install.sh | sh -s -- --from URL/paddle_devkit-VERSION-py3-none-any.whl
#
# uv makes an environment with a Python of its own; devkit goes into it. Nothing is asked, each step is said, and it may
# be run again: the devkit that is there stays until the new one answers. Without a network: unpack what devkit env
# bundle made elsewhere, and run the install.sh that is in it.
set -eu

usage() {
  cat << 'END'
usage: install.sh [--dir DIR] [--bin DIR] [--from WHAT] [--python VERSION|PATH] [--uv FILE] [--uninstall]

  --dir DIR      Install there, and keep environments, caches, settings and records there too: for a place where only
                 one folder stays. Without it: ~/.local/share/devkit, and the folders of the XDG specification. On
                 AI Studio it is /home/aistudio/work/devkit.
  --bin DIR      Where the command devkit goes; DIR/bin with --dir, else ~/.local/bin.
  --from WHAT    A wheel, an archive or a checkout of devkit, or its name in an index. By default what lies beside this
                 script: a bundle's, or the checkout's; else paddle-devkit, from the index.
  --python WHICH Another Python than uv's 3.11: a version, or the path of one of 3.10 to 3.13.
  --uv FILE      This uv. Else the bundle's, that on PATH, or it is fetched: by pip, or from uv's releases.
  --uninstall    Take devkit out again; environments and records stay.

Mirrors are named by uv's own variables and pip's settings: UV_DEFAULT_INDEX and pip.conf (packages),
UV_PYTHON_INSTALL_MIRROR or UV_PYTHON_DOWNLOADS_JSON_URL (Pythons), UV_DOWNLOAD_URL (the folder of uv's archive).
END
}

say() { printf '%s\n' "$*"; }
step() { printf '  %s\n' "$*"; }
fail() {
  printf 'x %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}
quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

fetch() { # URL FILE
  if command -v curl > /dev/null 2>&1; then
    curl -fsSL --retry 2 -o "$2" -- "$1"
  elif command -v wget > /dev/null 2>&1; then
    wget -q -O "$2" "$1"
  else
    for python3 in python3 python; do
      "$python3" -c 'import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])' "$1" "$2" 2> /dev/null && return 0
    done
    return 1
  fi
}

beside() { # the folder of this script, where it is a file
  case $0 in
    */install.sh) (CDPATH='' cd -- "$(dirname -- "$0")" && pwd) ;;
    install.sh) pwd ;;
  esac
}

is_bundle() { [ -n "$1" ] && [ -f "$1/bundle.json" ] && [ -f "$1/devkit/python.txt" ]; }

get_uv() { # puts uv at $dir/uv/uv
  mkdir -p -- "$dir/uv"
  new=$dir/uv/.uv-$$
  if [ -n "$uv" ]; then
    step "uv: $uv"
    cp -- "$uv" "$new"
  elif is_bundle "$here"; then
    step "uv: the bundle's"
    gzip -dc < "$here/uv.gz" > "$new"
  elif [ -n "${UV_DOWNLOAD_URL:-}" ]; then
    uv_archive "$UV_DOWNLOAD_URL"
  elif command -v uv > /dev/null 2>&1; then
    step "uv: $(command -v uv)"
    cp -L -- "$(command -v uv)" "$new"
  elif uv_by_pip; then
    :
  else
    uv_archive "${UV_INSTALLER_GITHUB_BASE_URL:-https://github.com}/astral-sh/uv/releases/latest/download"
  fi
  chmod 755 "$new"
  said=$("$new" --version 2>&1) || {
    rm -f -- "$new"
    fail "uv does not run here" "$said"
  }
  mv -f -- "$new" "$dir/uv/uv"
}

uv_by_pip() { # pip of any Python fetches uv's wheel: it knows the index, its proxy and its certificate
  for python3 in python3 python; do
    "$python3" -m pip --version > /dev/null 2>&1 || continue
    step "uv: by pip of $(command -v "$python3")"
    rm -rf -- "$dir/uv/.pip"
    if "$python3" -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
      --only-binary :all: --target "$dir/uv/.pip" uv && [ -f "$dir/uv/.pip/bin/uv" ]; then
      mv -f -- "$dir/uv/.pip/bin/uv" "$new"
      rm -rf -- "$dir/uv/.pip"
      return 0
    fi
    rm -rf -- "$dir/uv/.pip"
  done
  return 1
}

uv_archive() {
  archive=uv-$machine-unknown-linux-gnu
  step "uv: $1/$archive.tar.gz"
  fetch "$1/$archive.tar.gz" "$dir/uv/.archive-$$" || {
    rm -f -- "$dir/uv/.archive-$$"
    fail "uv could not be fetched from $1" "Name a mirror's folder: export UV_DOWNLOAD_URL=URL" \
      "or an uv that is here: --uv FILE; or make a bundle elsewhere: devkit env bundle"
  }
  (cd -- "$dir/uv" && gzip -dc < ".archive-$$" | tar -xf - && mv -f -- "$archive/uv" "$new" && rm -rf -- "$archive")
  rm -f -- "$dir/uv/.archive-$$"
}

get_python() { # sets $python to the Python to make the environment with
  if [ -n "$python" ]; then
    step "Python: $python"
  elif is_bundle "$here"; then
    name=$(cat -- "$here/devkit/python.txt")
    enough_glibc
    step "Python: the bundle's $name"
    if [ ! -x "$dir/python/$name/bin/python3" ]; then
      rm -rf -- "$dir/python/.new"
      mkdir -p -- "$dir/python/.new"
      gzip -dc < "$here/python/$name.tar.gz" | (cd -- "$dir/python/.new" && tar -xf -)
      rm -rf -- "${dir:?}/python/$name"
      mv -- "$dir/python/.new/python" "$dir/python/$name"
      rmdir -- "$dir/python/.new"
    fi
    python=$dir/python/$name/bin/python3
  else
    step "Python: uv's 3.11"
    UV_PYTHON_INSTALL_DIR=$dir/python "$dir/uv/uv" python install --quiet --no-bin 3.11 || no_python
    python=$(UV_PYTHON_INSTALL_DIR=$dir/python "$dir/uv/uv" python find --managed-python --no-project 3.11)
  fi
}

enough_glibc() { # the bundle says what its Python and its wheels need
  read -r major minor < "$here/devkit/glibc.txt"
  has=$(getconf GNU_LIBC_VERSION 2> /dev/null) || return 0
  has=${has#* }
  [ "${has%%.*}" -gt "$major" ] || { has=${has#*.} && [ "${has%%.*}" -ge "$minor" ]; } ||
    fail "the bundle needs glibc $major.$minor" "Here is $(getconf GNU_LIBC_VERSION). Make it on a machine as old as this one."
}

no_python() {
  there=$("$dir/uv/uv" python find --no-python-downloads --no-project '>=3.10,<3.14' 2> /dev/null) || there=
  fail "uv's Python could not be fetched" "Name a mirror of it: export UV_PYTHON_INSTALL_MIRROR=URL" \
    ${there:+"or take the one that is here: --python $(quoted "$there")"} \
    "or make a bundle elsewhere: devkit env bundle"
}

entry() { # the command devkit: a script of sh and of Python, which starts where PYTHONHOME names another Python's library
  cat << 'END'
#!/bin/sh
'''unset' PYTHONHOME
exec "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
import sys

from devkit.__main__ import main

sys.exit(main())
END
}

install() {
  say "installing devkit in $dir"
  UV_CACHE_DIR=${UV_CACHE_DIR:-$cache}
  export UV_CACHE_DIR
  get_uv
  get_python
  new=$dir/.venv-$$
  trap 'rm -rf -- "$new"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  rm -rf -- "$dir"/.venv-*
  "$dir/uv/uv" venv --quiet --no-project --no-config --relocatable --python "$python" -- "$new" ||
    fail "no environment could be made with $python" "devkit needs Python 3.10 or later."
  step "devkit: $from"
  if is_bundle "$here"; then
    set -- --offline --no-index --find-links "$here/devkit"
  elif [ -f "$here/constraints.txt" ]; then
    set -- -c "$here/constraints.txt"
  else
    set --
  fi
  (cd / && "$dir/uv/uv" pip install --quiet --python "$new/bin/python" "$@" -- "$from") ||
    fail "devkit could not be installed from $from" "uv says above why; UV_DEFAULT_INDEX names another index."
  [ -z "$stays" ] || printf '%s\n' "what devkit keeps is in the folder above this one" > "$new/devkit-home"
  entry > "$new/bin/devkit"
  version=$("$new/bin/python" -I -m devkit --version) || fail "the new devkit does not run" "The old one was left as it was."
  rm -rf -- "$dir/.old"
  [ ! -e "$dir/venv" ] || mv -- "$dir/venv" "$dir/.old"
  mv -- "$new" "$dir/venv"
  rm -rf -- "$dir/.old"
  mkdir -p -- "$bin"
  ln -sfn -- "$dir/venv/bin/devkit" "$bin/devkit"
  say "installed $version: $bin/devkit"
  case :$PATH: in
    *:"$bin":*) ;;
    *) [ -z "$stays" ] || say "  in each new shell, and after a restart: export PATH=$(quoted "$bin"):\$PATH"
       [ -n "$stays" ] || say "  put it on your PATH: echo $(quoted "export PATH=$(quoted "$bin"):\$PATH") >> ~/.profile" ;;
  esac
  if is_bundle "$here"; then
    say "  make the environment: devkit env create NAME --from $(quoted "$here")"
  else
    say "  next: devkit doctor"
  fi
  say "  take it out again: rm -rf -- $(quoted "$dir/venv") $(quoted "$dir/uv") $(quoted "$bin/devkit")"
}

uninstall() {
  if [ -L "$bin/devkit" ] && [ "$(readlink -- "$bin/devkit")" = "$dir/venv/bin/devkit" ]; then rm -f -- "$bin/devkit"; fi
  rm -rf -- "$dir/venv" "$dir/uv" "$dir/.old" "$dir"/.venv-*
  say "devkit is taken out of $dir; its Pythons, which environments may use, and all else there stay"
}

main() {
  dir='' bin='' from='' python='' uv='' action=install stays=''
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --uninstall) action=uninstall ;;
      --dir | --bin | --from | --python | --uv)
        [ $# -ge 2 ] && [ -n "$2" ] || { printf 'x %s wants a value\n' "$1" >&2; exit 2; }
        case $1 in --dir) dir=$2 ;; --bin) bin=$2 ;; --from) from=$2 ;; --python) python=$2 ;; --uv) uv=$2 ;; esac
        shift ;;
      *) printf 'x there is no flag %s\n' "$1" >&2; usage >&2; exit 2 ;;
    esac
    shift
  done
  [ "$(uname -s)" = Linux ] || fail "devkit runs on Linux" "On Windows: in WSL2, on its own disk."
  machine=$(uname -m)
  here=$(beside)
  [ -n "$dir" ] || [ ! -d /home/aistudio ] || dir=/home/aistudio/work/devkit
  if [ -n "$dir" ]; then
    case $dir in /*) ;; *) dir=$(pwd)/$dir ;; esac
    stays=yes
    bin=${bin:-$dir/bin}
    cache=$dir/cache/uv
  else
    [ -n "${HOME:-}" ] || fail "HOME is not set" "Name a folder: --dir DIR"
    dir=${XDG_DATA_HOME:-$HOME/.local/share}/devkit
    bin=${bin:-$HOME/.local/bin}
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/uv
  fi
  case $bin in /*) ;; *) bin=$(pwd)/$bin ;; esac
  case $dir$bin in *:*) fail "a folder of commands cannot have : in its name" "PATH is a list with : between its folders." ;; esac
  [ "$action" = install ] || { uninstall; exit 0; }
  if [ -e "$bin/devkit" ] && [ "$(readlink -- "$bin/devkit" || true)" != "$dir/venv/bin/devkit" ]; then
    fail "$bin/devkit is there already, and is not this script's" "Choose another folder: --bin DIR"
  fi
  mkdir -p -- "$dir" 2> /dev/null && [ -w "$dir" ] || fail "$dir cannot be written" "Choose another folder: --dir DIR"
  if [ -z "$from" ]; then
    if is_bundle "$here"; then
      from=paddle-devkit
    elif [ -n "$here" ] && grep -qs '^name = "paddle-devkit"' "$here/pyproject.toml"; then
      from=$here
    else
      from=paddle-devkit
    fi
  elif [ -e "$from" ]; then
    case $from in /*) ;; *) from=$(pwd)/$from ;; esac
  fi
  install
}

main "$@"
