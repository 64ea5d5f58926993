#!/usr/bin/env bash
# Run a command for so many hours at most, counted from the job's first start: limited.sh FILE HOURS COMMAND.
# FILE has when that was. It lies in the bucket, where the job finds it again after a preemption.
set -euo pipefail
file="$1" hours="$2"
shift 2
mkdir -p "$(dirname "$file")"
# All workers start at about the same time; the first one's start is everybody's.
(set -o noclobber && date +%s >"$file") 2>/dev/null || true
left="$(($(cat "$file") + hours * 3600 - $(date +%s)))"
code=124
if [ "$left" -gt 0 ]; then
	code=0
	timeout --kill-after=300 "$left" "$@" || code=$?
fi
[ "$code" != 124 ] || echo "limited.sh: the job's $hours hours are over; allow more, or delete $file to count anew" >&2
exit "$code"
