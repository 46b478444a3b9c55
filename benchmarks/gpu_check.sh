#!/usr/bin/env bash
# Checks this repository on a GPU in one call; see gpu_check.py, or --help.
#
#   benchmarks/gpu_check.sh [--rehearse] [--only STEP...]
#   PYTHON=python3.12 benchmarks/gpu_check.sh
exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/gpu_check.py" "$@"
