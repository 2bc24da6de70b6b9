#!/bin/sh
# Everything on one GPU, in one command and under nine minutes; what was measured by then is in OUT/gpu.json.
#   sh benchmarks/throughput/gpu.sh OUT [--only simclr-224,mae-224]
# Needs no network: what is not installed is taken from wheels/ in the root of the project (see the README here).
set -eu
out=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
place=$(mktemp -d)
if [ -d "$root/wheels" ]; then
    python3 -m pip install -q --no-index --no-deps --target "$place/packages" "$root"/wheels/*.whl
fi
mkdir -p "$out"
if [ -f "$here/gpu.json" ]; then cp "$here/gpu.json" "$out/gpu.json"; fi
PYTHONPATH="$place/packages:$root/src" exec python3 "$here/compare.py" \
    --device cuda --rounds 3 --minutes 8 --work "$place/work" --out "$out/gpu.json" "$@"
