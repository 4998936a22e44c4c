#!/usr/bin/env bash
# Models of keras.applications with random weights, written by Keras 2 and 3, imported and compared; models of this program,
# exported, opened in Keras 3 and compared. Takes minutes and two gigabytes of disk, which are given back.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
cargo=${CARGO:-cargo}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! "$python" -m venv "$work/venv" 2>"$work/log" ||
    ! "$work/venv/bin/pip" install -q "tensorflow-cpu>=2.20" "tf_keras>=2.20" h5py >"$work/log" 2>&1; then
    echo "exchange-keras: SKIPPED: no $python, or tensorflow-cpu and tf_keras cannot be installed: $(tail -n 1 "$work/log")" >&2
    exit 0
fi
"$work/venv/bin/python" exchange/tests/make_keras.py "$work/models" 2>"$work/log" || { tail -n 20 "$work/log" >&2; exit 1; }
OCELLI_KERAS_MODELS="$work/models" OCELLI_KERAS_EXPORTS="$work/exports" \
    $cargo test --locked -p ocelli-exchange --test keras -- --nocapture --test-threads=1
"$work/venv/bin/python" -W ignore exchange/tests/check_keras.py "$work/exports"
