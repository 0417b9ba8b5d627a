#!/bin/sh
# Ace-Ala15-NMe from an α helix in the gas phase: how it holds. About 6 minutes on two cores.
set -eu
cd "$(dirname "$0")"
. ../common.sh
heliodor prepare peptide AceAla15Nme --fold alpha --output out/ala15 --overwrite
heliodor md out/ala15.xyz --minimize --time "4 ps" --temperature 300 --save-every 20 --seed 1 --output out/ala15.h5 --overwrite
heliodor analyze out/ala15.h5 secondary-structure helix-bonds --overwrite
heliodor report out/ala15.h5 --overwrite
