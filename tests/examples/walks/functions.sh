# What every walk may use; sourced before its lines.

trap 'kill $(jobs -p) 2> /dev/null; wait' EXIT

begin() { printf '\n$ %s\n' "$1"; }

ends_with() { # STATUS: so the last line ended
  local status=$?
  ((status == $1)) && return
  echo "[it ended with status $status]"
  [ -n "$WALK_GOES_ON" ] || exit 1
}

on_terminal() { # COMMAND…: run it on a terminal, and leave the shell that it opens
  script -qec "$(printf '%q ' "$@")" /dev/null <<< exit
}

name_last_run() { # ID: give the last run the id that a page has
  local folder
  folder=$(ls -d "$XDG_STATE_HOME"/devkit/runs/*/ | tail -n 1)
  folder=${folder%/}
  sed -i "s/\"id\": \"${folder##*-}\"/\"id\": \"$1\"/" "$folder/record.json" && mv "$folder" "${folder%-*}-$1"
}
