#!/usr/bin/env bash
# Look after the whole job until it is done: create, set up, run, and again after every preemption: tpu/resume.sh
# [--dry-run]. The slice is deleted at the end, when MAX_HOURS are over, and when this script is stopped. Exit code 0:
# done; 1: the job failed twice on one healthy slice (its own mistake, not a preemption), or the hours are over.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [ "$DRY_RUN" = yes ]; then
	for step in hours create setup run copy delete; do "$HERE/$step.sh" --dry-run; done
	exit 0
fi
"$HERE/hours.sh" || exit $?
end=$((SECONDS + MAX_HOURS * 3600))
failures=0 lost=0
trap 'say "deleting $NAME"; "$HERE/delete.sh"' EXIT

begin() { "$HERE/create.sh" && "$HERE/setup.sh" && "$HERE/run.sh"; }

# One word for how the job stands on the slice: running, done CODE, idle, lost (a worker does not answer).
job() {
	local said
	said="$(on_workers "bash sgtr-jax/tpu/on_vm/status.sh" 2>/dev/null)" || { echo lost && return; }
	if grep -q '^running$' <<<"$said"; then
		echo running
	elif grep -q '^done [1-9]' <<<"$said"; then
		grep -m 1 '^done [1-9]' <<<"$said"
	elif grep -q '^idle$' <<<"$said"; then
		echo idle
	else
		echo "done 0"
	fi
}

begin || failed "the job could not be started"
while :; do
	sleep "$POLL_SECONDS"
	[ "$SECONDS" -lt "$end" ] || failed "MAX_HOURS=$MAX_HOURS are over; the run folder is in the bucket, and tpu/resume.sh goes on from it"
	now="$(state)"
	if [ "$now" != ACTIVE ]; then
		say "$NAME is $now: preempted; creating it again"
		lost=0 failures=0
		begin || failed "the job could not be started again"
		continue
	fi
	case "$(job)" in
	"done 0")
		"$HERE/copy.sh"
		say "done"
		exit 0
		;;
	done* | idle)
		failures=$((failures + 1))
		[ "$failures" -lt 2 ] || failed "the job ended with an error twice on a healthy slice: see tpu/logs.sh and $BUCKET/runs/$NAME"
		say "the job ended with an error on a healthy slice; one more try"
		"$HERE/run.sh" || true
		;;
	lost)
		lost=$((lost + 1))
		say "a worker does not answer ($lost of 3)"
		if [ "$lost" -ge 3 ]; then
			lost=0
			"$HERE/delete.sh"
		fi
		;;
	*) lost=0 ;;
	esac
done
