#!/usr/bin/env bash
# Against bills: lists the zone's slices, warns of those on which nothing runs, and deletes this one when it is older
# than MAX_HOURS. tpu/guard.sh [--dry-run] looks once; in cron it looks for you.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck disable=SC2046
cloud compute tpus tpu-vm list $(where) --format='table(name,acceleratorType,state)'
[ "$DRY_RUN" = no ] || exit 0
if [ "$(state)" != ACTIVE ]; then
	say "$NAME is not running"
	exit 0
fi
created="$(cat "$HERE/.created-$NAME" 2>/dev/null || date +%s)"
hours=$((($(date +%s) - created) / 3600))
if [ "$hours" -ge "$MAX_HOURS" ]; then
	say "$NAME is $hours hours old, and MAX_HOURS is $MAX_HOURS: deleting it"
	exec "$HERE/delete.sh"
fi
if ! on_workers "bash sgtr-jax/tpu/on_vm/status.sh" 2>/dev/null | grep -q '^running$'; then
	say "WARNING: nothing runs on $NAME, which costs money since $hours hours; tpu/delete.sh deletes it"
	exit 1
fi
