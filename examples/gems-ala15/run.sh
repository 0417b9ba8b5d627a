#!/bin/sh
# Ace-Ala15-NMe: a force field from GFN2-xTB of its fragments. Hours on two cores; not timed as a whole.
set -eu
cd "$(dirname "$0")"
. ../common.sh
heliodor gems AceAla15Nme --config gems.yaml --output out/ala15
