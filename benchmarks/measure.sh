#!/usr/bin/env bash
# Measures every file of benchmarks/results anew, on this commit, and writes the pages that are made of them:
#
#   benchmarks/measure.sh ../data          the folder with MNIST/raw and FashionMNIST/raw, as the files are to name it
#
# Leave the machine alone meanwhile. Files that are there are left as they are, so that what was interrupted goes on; a
# file of a former commit has to be removed, by a commit, first. What does not fit into one sitting can be measured in
# another, on the same commit. Libraries to compare with: pip install faiss-cpu fastersom intrasom xpysom torchsom minisom.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -eq 1 ] && [ -d "$1/MNIST/raw" ] || { echo "usage: benchmarks/measure.sh DIR, with DIR/MNIST/raw in it" >&2; exit 2; }
git diff --quiet HEAD || { echo "measure.sh: commit your changes first, as figures are of one commit" >&2; exit 2; }
data=$1 results=benchmarks/results python=${PYTHON:-python}

# A file, and what writes it.
measure() {
  local file=$results/$1.json start=$SECONDS
  shift
  [ ! -e "$file" ] || { echo "== $file is there"; return; }
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
