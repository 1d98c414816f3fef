#!/usr/bin/env bash
# What `make gpu` asks of a CUDA machine: what it is, the demo, the tests marked gpu, the benchmarks.
# No pip, no virtual environment, no network: only the python3 that is there, with torch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${1:-gpu-out}
python=${PYTHON:-python3}
export PYTHONPATH=. OUT="$out"

failed=()
step() {
    echo "== $*"
    "$@" || failed+=("$* (exit code $?)")
}

everything() {
    step "$python" -m freezeinspect demo --device cuda --output "$out/demo"
    # Only the files with such a test: the others may import at their top what this machine need not have.
    mapfile -t files < <(grep -rlE --include='test_*.py' 'mark\.gpu' tests)
    step "$python" -m pytest -m gpu "${files[@]:-tests}"  # exit code 5, nothing collected, is a failure too
    step "$python" -m pytest tests/recorder/test_kernel.py
    for file in benchmarks/gpu/*.py; do
        [ -e "$file" ] || continue
        module=${file%.py}
        step "$python" -m "${module//\//.}"
    done
    [ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[@]}"; return 1; }
}

mkdir -p "$out"
"$python" -m benchmarks.machine "$out/machine.json" 2>&1 | tee "$out/log.txt"
everything 2>&1 | tee -a "$out/log.txt"
