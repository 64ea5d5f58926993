#!/usr/bin/env bash
# One run on as many GPUs as the array has tasks, over a file system that all nodes have:
#   sbatch --array=1-4 tpu/cluster/slurm.sh /scratch/me/sgtr run configs/paper/figures/prevention.yaml seeds=3
# A task that is preempted is queued again, and until then the others take over what it was at. Each task has its own run
# folder, runs/NAME/part-I-of-N, below the folder that sbatch is called in; the report is in the shared one.
#SBATCH --job-name=sgtr
#SBATCH --array=1-4
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=128G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=sgtr-%A-%a.log
set -euo pipefail
if [ "$#" -lt 3 ] || [ "${1#/}" = "$1" ] || [ "$2" != run ]; then
	echo "slurm.sh: error: expected an absolute folder that all nodes have, and sgtr's words: /scratch/me/sgtr run CONFIG ..." >&2
	exit 2
fi
folder="$1"
shift
mkdir -p "$folder"
exec sgtr "$@" "mirror=file://$folder" --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
