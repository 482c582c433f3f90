#!/usr/bin/env bash
# Train a cascade, draw from it and clean a folder, on several nodes with several GPUs each. Not tested on a cluster;
# docs/processes.md says what was.
#
#     sbatch examples/slurm.sh
#     sbatch --nodes 4 --export ALL,OUT=/shared/other examples/slurm.sh
#
# Every step continues where it was stopped, so a job that ran out of time, or lost a node, is submitted again as it is.

#SBATCH --job-name=wavdiff
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1        # one torchrun a node, which starts a process for each GPU
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32         # of the node, for all its processes
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
#SBATCH --requeue

set -euo pipefail

# Paths that all nodes see.
DATA=${DATA:-pictures}                      # a folder of pictures
OUT=${OUT:-runs/mine}
CONFIG=${CONFIG:-faces}                     # a preset or a YAML file
NOISY=${NOISY:-}                            # a folder to clean; none: that step is left out
PROCESSES=${PROCESSES:-${SLURM_GPUS_ON_NODE:-4}} # a node; without GPUs as many as you like
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK > PROCESSES ? SLURM_CPUS_PER_TASK / PROCESSES : 1))

# The processes meet on the first node; two jobs on it need two ports.
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
PORT=$((20000 + SLURM_JOB_ID % 10000))

# When a process fails, torchrun ends those of its node, and srun the other nodes. `--` because torchrun would take --n
# for one of its own options.
wavdiff() {
    srun --kill-on-bad-exit=1 torchrun \
        --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$PROCESSES" \
        --rdzv-backend c10d --rdzv-endpoint "$FIRST:$PORT" --rdzv-id "$SLURM_JOB_ID" \
        -m -- wavdiff.cli "$@"
}

# training.batch_size is that of all processes together and must be divisible by their number.
wavdiff train --config "$CONFIG" --data "$DATA" --out "$OUT"

# Once per image, 10,000 in all; later more: --n 20000.
wavdiff sample --model "$OUT" --n 10000 --out "$OUT/drawn"

if [ -n "$NOISY" ]; then
    wavdiff denoise "$NOISY" --model "$OUT" --out "$OUT/cleaned" --skip-existing
fi
