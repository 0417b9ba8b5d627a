#!/bin/sh
# Crambin from its PDB entry: prepared, put into water, run for a moment, reported.
set -eu
cd "$(dirname "$0")"
. ../common.sh
heliodor prepare 1crn.pdb --solvate 5 --output out/crambin --overwrite
heliodor md out/crambin.xyz --ensemble npt --time "0.1 ps" --temperature 300 --save-every 5 --seed 1 --output out/crambin.h5 --overwrite
heliodor report out/crambin.h5 --overwrite
