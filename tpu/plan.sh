#!/usr/bin/env bash
# Refuse a run whose plan takes more hours than it may, before it costs them: tpu/plan.sh SLICE HOURS sgtr's words.
# `sgtr plan` compiles for the slice, which takes some minutes and needs libtpu. OVER_HOURS=yes starts without a plan.
# With DRY_RUN=yes the command is printed.
set -euo pipefail
[ "${OVER_HOURS:-no}" = no ] || exit 0
slice="$1" hours="$2"
shift 2
[ "$1" = run ] || exit 0
plan=(sgtr plan)
for word in "${@:2}"; do [[ "$word" == --* ]] || plan+=("$word"); done
plan+=(--topology "$slice" --max-hours "$hours")
if [ "${DRY_RUN:-no}" = yes ]; then
	echo "${plan[*]}"
	exit 0
fi
if ! command -v sgtr >/dev/null; then
	echo "tpu: error: sgtr is not installed here, and without a plan nobody knows whether MAX_HOURS=$hours are enough; install it, or set OVER_HOURS=yes" >&2
	exit 2
fi
# The chips, where there are any, are the run's.
JAX_PLATFORMS=cpu "${plan[@]}" && exit 0
echo "tpu: error: not started (the reason is above); correct the command, raise MAX_HOURS, or set OVER_HOURS=yes" >&2
exit 2
