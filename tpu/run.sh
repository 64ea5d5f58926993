#!/usr/bin/env bash
# Start the command of the settings on all workers and leave it running there: tpu/run.sh [--dry-run].
# A second start while one is running changes nothing and says so.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

code=0
on_workers "bash sgtr-jax/tpu/on_vm/run.sh $(printf '%q' "$NAME") $(printf '%q' "$COMMAND")" || code=$?
case "$code" in
0) say "started: sgtr $COMMAND. tpu/logs.sh follows it, tpu/resume.sh looks after it" ;;
3) say "it is running already" ;;
*) failed "it could not be started on every worker (exit code $code); a worker that is lost shows in tpu/resume.sh" ;;
esac
