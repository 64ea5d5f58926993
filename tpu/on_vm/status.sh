#!/usr/bin/env bash
# On a worker: running, done CODE, or idle.
set -euo pipefail
exec 9>"$HOME/sgtr.lock"
if ! flock -n 9; then
	echo running
elif [ -f "$HOME/sgtr.exit" ]; then
	echo "done $(cat "$HOME/sgtr.exit")"
else
	echo idle
fi
