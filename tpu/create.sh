#!/usr/bin/env bash
# Create the slice and wait until it can be used: tpu/create.sh [--dry-run]. Exit code 1 when it cannot be had in time.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

found="$(state)"
if [ "$DRY_RUN" = no ] && [ "$found" = ACTIVE ]; then
	say "$NAME is there already"
	exit 0
fi
case "$found" in SUSPENDED | FAILED | PREEMPTED)
	say "$NAME is $found: removed first"
	"$HERE/delete.sh"
	;;
esac

spot=() account=()
[[ "$MODE" != *spot ]] || spot=(--spot)
[ -z "$SERVICE_ACCOUNT" ] || account=("--service-account=$SERVICE_ACCOUNT")
deadline=$((SECONDS + MAX_WAIT_HOURS * 3600))

ask() {
	# shellcheck disable=SC2046
	if [ "$KIND" = queued-resources ]; then
		cloud compute tpus queued-resources create "$NAME" --node-id="$NAME" $(where) --accelerator-type="$TYPE" \
			--runtime-version="$RUNTIME" --valid-until-duration="${MAX_WAIT_HOURS}h" "${spot[@]}" "${account[@]}"
	else
		cloud compute tpus tpu-vm create "$NAME" $(where) --accelerator-type="$TYPE" --version="$RUNTIME" \
			"${spot[@]}" "${account[@]}"
	fi
}

if [ "$DRY_RUN" = yes ]; then
	ask
	exit 0
fi
while :; do
	case "$(state)" in
	ACTIVE)
		date +%s >"$HERE/.created-$NAME"
		say "$NAME is ready; it is deleted after $MAX_HOURS hours if tpu/resume.sh or tpu/guard.sh is running"
		exit 0
		;;
	NONE) ask || say "not to be had right now (capacity or quota; the message is above)" ;;
	FAILED | SUSPENDED | PREEMPTED) "$HERE/delete.sh" ;;
	*) ;; # still on its way
	esac
	[ "$SECONDS" -lt "$deadline" ] || failed "$NAME: no capacity within $MAX_WAIT_HOURS hours"
	sleep "$POLL_SECONDS"
done
