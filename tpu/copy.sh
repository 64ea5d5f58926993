#!/usr/bin/env bash
# Copy the run's results from the bucket: tpu/copy.sh [--dry-run] [FOLDER]. Adapters stay there unless ALL=yes.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
target="${REST[0]:-$ROOT/runs/$NAME}"
less=()
[ "${ALL:-no}" = yes ] || less=(--exclude='.*(adapter_model\.safetensors|/\.scratch-).*')
[ "$DRY_RUN" = yes ] || mkdir -p "$target"
cloud storage rsync --recursive "${less[@]}" "$BUCKET/runs/$NAME" "$target"
say "results are in $target; report.html is the page"
