#!/usr/bin/env bash
# Refuse a run whose plan takes more than MAX_HOURS at least, before anything is rented: tpu/hours.sh [--dry-run].
# `sgtr plan` compiles for the slice here, which takes some minutes and needs libtpu. OVER_HOURS=yes goes on without it.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ "${OVER_HOURS:-no}" = no ] || exit 0
read -r -a words <<<"$COMMAND"
[ "${words[0]}" = run ] || exit 0
plan=(sgtr plan)
for word in "${words[@]:1}"; do [[ "$word" == --* ]] || plan+=("$word"); done
plan+=(--topology "$ACCELERATOR" --json)
if [ "$DRY_RUN" = yes ]; then
	echo "${plan[*]}"
	exit 0
fi
command -v sgtr >/dev/null || wrong "sgtr is not installed here, and without a plan nobody knows whether MAX_HOURS=$MAX_HOURS are enough; install it, or set OVER_HOURS=yes"
said="$("${plan[@]}")" || wrong "no plan (its message is above): ${plan[*]}; correct COMMAND, or set OVER_HOURS=yes"
tail -n 1 <<<"$said" | python3 -c '
import json, sys

plan, most = json.load(sys.stdin), float(sys.argv[1])
total = plan["accelerator_hours_at_least"]
hours = None if total is None else total / plan["chips"]
if hours is None:
    sys.exit("tpu: error: the plan does not fit the slice; take a larger one, or set OVER_HOURS=yes")
print(f"tpu: the plan takes {hours:.1f} hours at least, of MAX_HOURS={most:g}", file=sys.stderr)
if hours > most:
    sys.exit("tpu: error: that is more; raise MAX_HOURS, take a larger slice, or set OVER_HOURS=yes")
' "$MAX_HOURS" || exit 2
