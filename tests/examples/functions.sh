# What every walk may use; sourced before its lines. With WALK_GOES_ON=1 all lines are typed, whatever one ends with.

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

folder_of() { # ID: the folder of a run's record; the last run's with ""
  local all=("$XDG_STATE_HOME"/devkit/runs/*"${1:+-$1}")
  echo "${all[-1]}"
}

name_last_run() { # ID: give the last run the id that a page has
  local folder
  folder=$(folder_of "")
  sed -i "s/\"id\": \"${folder##*-}\"/\"id\": \"$1\"/" "$folder/record.json" && mv "$folder" "${folder%-*}-$1"
}

as_paddlenlp_logs() { # the steps of a run's events, in the words of PaddleNLP's trainer
  sed -n 's/.*"event": "step".*"step": \([0-9]*\),.*"loss": \([^,]*\),.*/loss: \2, learning_rate: 1e-3, global_step: \1/p'
}
