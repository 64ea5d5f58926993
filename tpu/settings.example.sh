# Settings of all scripts here. Copy to settings.sh and fill in; a variable of the environment wins over the file.
# shellcheck shell=bash disable=SC2034
: "${PROJECT:=}"             # Google Cloud project
: "${ZONE:=us-central1-a}"   # where you have quota for the accelerator
: "${NAME:=sgtr}"            # of the slice
: "${ACCELERATOR:=v5e-16}"   # as `sgtr plan --topology` calls it: v5e-16, v6e-8, v5p-16, v4-32
: "${MODE:=queued-spot}"     # on-demand, spot, queued, or queued-spot
: "${BUCKET:=}"              # gs://NAME; run folders, models and the compilation cache live there
: "${SERVICE_ACCOUNT:=}"     # of the slice, with storage.objectAdmin on the bucket; empty: the project's default
: "${COMMAND:=run configs/paper/figures/prevention.yaml seeds=3 judge.max_cost=250}" # of sgtr; out= is added
: "${KEYS_FILE:=}"           # local file of KEY=VALUE lines (HF_TOKEN, OPENAI_API_KEY), copied to every worker
: "${MAX_HOURS:=12}"         # the slice is deleted after so many hours, whatever goes on
: "${OVER_HOURS:=no}"        # yes: start even if the plan takes more than MAX_HOURS, or cannot be made here
: "${MAX_WAIT_HOURS:=6}"     # how long to wait for capacity
: "${POLL_SECONDS:=60}"      # between questions
