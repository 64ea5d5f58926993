#!/usr/bin/env bash
# Refuse a run whose plan takes more than MAX_HOURS, before anything is rented: tpu/hours.sh [--dry-run].
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
read -r -a words <<<"$COMMAND"
export DRY_RUN OVER_HOURS
exec "$HERE/plan.sh" "$ACCELERATOR" "$MAX_HOURS" "${words[@]}"
