#!/usr/bin/env bash
# Delete the slice; the bucket keeps everything: tpu/delete.sh [--dry-run].
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ "$(state)" = NONE ]; then
	say "$NAME: there is none"
	exit 0
fi
for attempt in 1 2 3; do
	# shellcheck disable=SC2046
	if [ "$KIND" = queued-resources ]; then
		cloud compute tpus queued-resources delete "$NAME" $(where) --force --quiet && break
	else
		cloud compute tpus tpu-vm delete "$NAME" $(where) --quiet && break
	fi
	[ "$attempt" -lt 3 ] || failed "$NAME COULD NOT BE DELETED and goes on costing money: delete it in the console"
	sleep "${RETRY_SECONDS:-5}"
done
rm -f "$HERE/.created-$NAME"
