#!/bin/sh
# Ace-Ala3-NMe in the gas phase: where its backbone goes. About 15 minutes on two cores.
set -eu
cd "$(dirname "$0")"
. ../common.sh
heliodor prepare peptide AceAla3Nme --output out/ala3 --overwrite
heliodor md out/ala3.xyz --minimize --time "40 ps" --temperature 400 --save-every 40 --seed 1 --output out/ala3.h5 --overwrite
heliodor analyze out/ala3.h5 ramachandran --overwrite
heliodor report out/ala3.h5 --overwrite
