#!/usr/bin/env bash
# On a worker: start `sgtr COMMAND` in the background, once. run.sh NAME COMMAND
set -euo pipefail
cd "$HOME/sgtr-jax"
out="$HOME/bucket/runs/$1"
mkdir -p "$out"
exec 9>"$HOME/sgtr.lock"
if ! flock -n 9; then
	echo "sgtr is running here already" >&2
	exit 3
fi
rm -f "$HOME/sgtr.exit"
# The lock is the running job's: it is free again when the job ends, however it ends.
(
	export SGTR_DISTRIBUTED=auto JAX_COMPILATION_CACHE_DIR="$HOME/bucket/xla-cache" PYTHONUNBUFFERED=1
	# Only a whole experiment takes its folder as a setting.
	where=()
	[[ "$2" != "run "* ]] || where=("out=$out")
	code=0
	# shellcheck disable=SC2086
	"$HOME/venv/bin/sgtr" $2 "${where[@]}" >>"$HOME/sgtr.log" 2>&1 </dev/null || code=$?
	echo "$code" >"$HOME/sgtr.exit"
) >/dev/null 2>&1 </dev/null &
echo "$!" >"$HOME/sgtr.pid"
