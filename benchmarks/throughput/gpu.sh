#!/bin/sh
# Everything on one GPU, in one command and under nine minutes; what was measured by then is in the file.
#   sh benchmarks/throughput/gpu.sh OUT [--only simclr-224,mae-224]
# Needs no network: wheels that are not installed are taken from ./wheels (see the README beside this file).
set -eu
out=$1; shift
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$here/../.." && pwd)
place=$(mktemp -d)
python3 -m venv --system-site-packages "$place/venv"
python="$place/venv/bin/python"
[ -d "$root/wheels" ] && "$python" -m pip install -q --no-index --no-deps "$root"/wheels/*.whl
echo "$root/src" > "$("$python" -c 'import site; print(site.getsitepackages()[0])')/medprior.pth"
mkdir -p "$out"
cp "$here/gpu.json" "$out/" 2>/dev/null || true
exec "$python" "$here/compare.py" --device cuda --rounds 3 --minutes 8 --work "$place/work" --out "$out/gpu.json" "$@"
