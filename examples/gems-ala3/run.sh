#!/bin/sh
# Ace-Ala3-NMe: a force field from GFN2-xTB of its fragments. About an hour on two cores.
set -eu
cd "$(dirname "$0")"
. ../common.sh
heliodor gems AceAla3Nme --config gems.yaml --output out/ala3
