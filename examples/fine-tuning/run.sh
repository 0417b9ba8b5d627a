#!/bin/sh
# heliodor-mini to SO3LR's forces for paracetamol, with replay. About a minute on one quiet core.
set -eu
cd "$(dirname "$0")"
. ../common.sh
if [ -x ../../.venv/bin/python ]; then python=../../.venv/bin/python; else python=python3; fi
"$python" make_data.py
heliodor train finetune.yaml
cat out/tuned/forgetting.txt
