#!/usr/bin/env bash
# Measures all files of benchmarks/results on this commit, and renders the pages that are made of them:
#
#   benchmarks/measure.sh ../data          the folder with MNIST/raw and FashionMNIST/raw, as the files will name it
#
# Nothing else may run on the machine meanwhile. Existing files are kept, so an interrupted run can be continued later
# on the same commit; files of an earlier commit have to be removed first, in a commit.
# Libraries to compare with: pip install faiss-cpu fastersom intrasom xpysom torchsom minisom.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -eq 1 ] && [ -d "$1/MNIST/raw" ] || { echo "usage: benchmarks/measure.sh DIR, with DIR/MNIST/raw in it" >&2; exit 2; }
git diff --quiet HEAD || { echo "measure.sh: commit your changes first, as figures are of one commit" >&2; exit 2; }
data=$1 results=benchmarks/results python=${PYTHON:-python}

# measure NAME COMMAND...: writes NAME.json, unless it exists, with COMMAND.
measure() {
  local file=$results/$1.json start=$SECONDS
  shift
  [ ! -e "$file" ] || { echo "== $file exists"; return; }
  echo "== $file: $*"
  "$@" --json "$file"
  echo "== $file: $((SECONDS - start)) s"
}

for suite in bmu pruned training head; do
  measure $suite "$python" -m somvae_ext bench $suite --data-root "$data"
done
for suite in models ops; do
  measure $suite "$python" -m somvae_ext bench $suite
done
[ -e $results/quick/ops.json ] || "$python" -m somvae_ext bench --quick --out $results/quick
measure comparison_trials "$python" benchmarks/comparison_trials.py
measure table_reading "$python" benchmarks/table_reading.py
measure prediction "$python" benchmarks/prediction.py
measure rescored_tiles "$python" benchmarks/rescored_tiles.py --data-root "$data"
measure presets "$python" benchmarks/presets.py --data-root "$data" --picture docs/ordered_map.png
"$python" benchmarks/page.py
