#!/usr/bin/env bash
# Install this working tree on every worker and check the versions there: tpu/setup.sh [--dry-run].
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

pins="$(awk -v generation="${ACCELERATOR%%-*}" '$1 == generation {print $2, $3}' "$HERE/versions.txt")"
[ -n "$pins" ] || wrong "tpu/versions.txt has no line for ${ACCELERATOR%%-*}"
archive="$(mktemp -d)"
trap 'rm -rf "$archive"' EXIT
# What is committed is what runs: a result must be traceable to a commit.
git -C "$ROOT" archive --format=tar.gz --output="$archive/sgtr-jax.tar.gz" HEAD
if [ -n "$KEYS_FILE" ]; then
	[ -f "$KEYS_FILE" ] || wrong "KEYS_FILE=$KEYS_FILE: no such file"
	(umask 077 && cp "$KEYS_FILE" "$archive/keys.env")
else
	(umask 077 && : >"$archive/keys.env")
fi
# shellcheck disable=SC2046
cloud compute tpus tpu-vm scp "$archive/sgtr-jax.tar.gz" "$archive/keys.env" "$NAME:" $(where) --worker=all ||
	failed "the source could not be copied to every worker"
on_workers "mkdir -p sgtr-jax && tar -xzf sgtr-jax.tar.gz -C sgtr-jax && bash sgtr-jax/tpu/on_vm/setup.sh $BUCKET $pins" ||
	failed "setting up failed on a worker; its messages are above. tpu/setup.sh may be started again"
