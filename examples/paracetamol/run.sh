#!/bin/sh
# Paracetamol in the gas phase: its power spectrum and its infrared spectrum. About 4 minutes on two cores.
set -eu
cd "$(dirname "$0")"
. ../common.sh
heliodor prepare molecule "CC(=O)Nc1ccc(O)cc1" --output out/paracetamol --overwrite
heliodor md out/paracetamol.xyz --minimize --time "10 ps" --temperature 300 --thermostat csvr --save-every 1 --seed 1 --output out/paracetamol.h5 --overwrite
heliodor analyze out/paracetamol.h5 vdos infrared --overwrite
heliodor report out/paracetamol.h5 --overwrite
