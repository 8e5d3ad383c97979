#!/bin/sh
# The contract of the challenge: every $INPUTS/X_0000.nii.gz becomes $OUTPUTS/X.nii.gz.
# Further arguments go to 'labelferry predict', whose exit code is this script's.
set -eu

inputs=${INPUTS:-/workspace/inputs}
outputs=${OUTPUTS:-/workspace/outputs}
model=${MODEL:-/workspace/model}

exec labelferry predict "$inputs" "$outputs" --model "$model" "$@"
