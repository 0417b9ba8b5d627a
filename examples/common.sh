# Where heliodor is, and where what a script makes goes: sourced by each example.
heliodor() {
    if [ -x ../../.venv/bin/heliodor ]; then ../../.venv/bin/heliodor "$@"; else command heliodor "$@"; fi
}
mkdir -p out
