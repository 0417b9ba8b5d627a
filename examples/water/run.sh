#!/bin/sh
# Liquid water: radial distributions, density, diffusion. About 5 minutes on two cores.
set -eu
cd "$(dirname "$0")"
. ../common.sh
heliodor md ../water_64.xyz --minimize --time "4 ps" --temperature 300 --thermostat csvr --save-every 4 --seed 1 --output out/water.h5 --overwrite
heliodor analyze out/water.h5 rdf density diffusion --overwrite
heliodor report out/water.h5 --overwrite
