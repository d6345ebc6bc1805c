#!/usr/bin/env bash
# Generation, filter, SFT and RL on Slurm. Submit it again to continue: every stage resumes.
#   sbatch configs/slurm.sh runs/7b Video-R1-260k.json data
# Generate with a job array first, one part of the questions per job (ARGUMENTS as above):
#   sbatch --array=1-8 --nodes=1 configs/slurm.sh ARGUMENTS
#SBATCH --job-name=p2r
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=p2r-%j.log
set -euo pipefail

run=$1 questions=$2 media=$3
recipe=${RECIPE:-qwen2.5-vl-7b-8x80gb}
config=${CONFIG:-configs/zero3.yaml}
# A node of the job is the meeting point of all trainers.
main=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))

launch() { # one trainer per GPU, on all nodes
    srun bash -c 'accelerate launch --config_file "$0" --num_machines "$SLURM_NNODES" \
        --num_processes $((SLURM_NNODES * SLURM_GPUS_ON_NODE)) --machine_rank "$SLURM_NODEID" \
        --main_process_ip "$1" --main_process_port "$2" -m p2r "${@:3}"' \
        "$config" "$main" "$port" "$@"
}

if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then # an array: this job's part of the questions
    p2r generate --run "$run" --recipe "$recipe" --questions "$questions" --data-root "$media" \
        --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
    exit
fi
p2r generate --run "$run" --recipe "$recipe" --questions "$questions" --data-root "$media"
p2r filter --run "$run"
launch sft --run "$run"
launch rl --run "$run" --credit process
