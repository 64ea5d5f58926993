#!/usr/bin/env bash
# Follow what the first worker says (WORKER=2 for another one): tpu/logs.sh [--dry-run].
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
WORKER="${WORKER:-0}" on_workers "tail -n 200 -F sgtr.log"
