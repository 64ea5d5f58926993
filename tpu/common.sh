# What all scripts share: settings, --dry-run, and the only places that call gcloud.
# shellcheck shell=bash disable=SC2034
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(dirname "$HERE")"
SETTINGS="${SGTR_TPU_SETTINGS:-$HERE/settings.sh}"
DRY_RUN=no
REST=()
for word in "$@"; do
	if [ "$word" = --dry-run ]; then DRY_RUN=yes; else REST+=("$word"); fi
done

say() { echo "tpu: $*" >&2; }
wrong() {
	echo "tpu: error: $*" >&2
	exit 2
}
failed() {
	echo "tpu: failed: $*" >&2
	exit 1
}

[ -f "$SETTINGS" ] || wrong "$SETTINGS: no such file; copy tpu/settings.example.sh to it and fill it in"
# shellcheck source=settings.example.sh
source "$SETTINGS"
for needed in PROJECT ZONE NAME ACCELERATOR MODE BUCKET COMMAND MAX_HOURS MAX_WAIT_HOURS POLL_SECONDS; do
	[ -n "${!needed:-}" ] || wrong "$SETTINGS: $needed is empty"
done
[[ "$BUCKET" == gs://* ]] || wrong "BUCKET=$BUCKET: expected gs://NAME"
[[ "$MAX_HOURS$MAX_WAIT_HOURS" =~ ^[0-9]+$ ]] || wrong "MAX_HOURS and MAX_WAIT_HOURS must be whole numbers"
case "$MODE" in on-demand | spot | queued | queued-spot) ;; *) wrong "MODE=$MODE: expected on-demand, spot, queued or queued-spot" ;; esac
case "$ACCELERATOR" in
v4-*) TYPE="$ACCELERATOR" RUNTIME=tpu-ubuntu2204-base ;;
v5e-*) TYPE="v5litepod-${ACCELERATOR#v5e-}" RUNTIME=v2-alpha-tpuv5-lite ;;
v5p-*) TYPE="$ACCELERATOR" RUNTIME=v2-alpha-tpuv5 ;;
v6e-*) TYPE="$ACCELERATOR" RUNTIME=v2-alpha-tpuv6e ;;
*) wrong "ACCELERATOR=$ACCELERATOR: expected v4-, v5e-, v5p- or v6e-SIZE" ;;
esac
# A queued resource and its one node have the same name.
case "$MODE" in queued*) KIND=queued-resources ;; *) KIND=tpu-vm ;; esac

# Every command to the cloud goes through here; with --dry-run it is printed and not run.
cloud() {
	if [ "$DRY_RUN" = yes ]; then
		printf 'gcloud'
		printf ' %q' "$@"
		printf '\n'
	else
		gcloud "$@"
	fi
}

where() { echo "--project=$PROJECT --zone=$ZONE"; }

# State of the slice: ACTIVE when it can be used, NONE when there is none; whatever the cloud says otherwise.
state() {
	local found
	[ "$DRY_RUN" = no ] || { echo ACTIVE && return; }
	# shellcheck disable=SC2046
	if [ "$KIND" = queued-resources ]; then
		found="$(gcloud compute tpus queued-resources describe "$NAME" $(where) --format='value(state.state)' 2>/dev/null)" || found=NONE
	else
		found="$(gcloud compute tpus tpu-vm describe "$NAME" $(where) --format='value(state)' 2>/dev/null)" || found=NONE
	fi
	[ "$found" != READY ] || found=ACTIVE
	echo "${found:-NONE}"
}

# Run a command on all workers (or WORKER=0), again when the connection drops; ssh itself ends with 255 then.
on_workers() {
	local attempt code
	for attempt in 1 2 3 4; do
		code=0
		# shellcheck disable=SC2046
		cloud compute tpus tpu-vm ssh "$NAME" $(where) --worker="${WORKER:-all}" --command="$1" || code=$?
		[ "$code" = 255 ] || return "$code"
		say "the connection dropped (attempt $attempt of 4)"
		sleep "$((attempt * ${RETRY_SECONDS:-5}))"
	done
	return 255
}
