# What both trials of a package say and wait with; each has its own `fail`.

say() { echo "  $*"; }
# Waits until a command succeeds.
until_true() {
    local what=$1
    shift
    for _ in $(seq 400); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    fail "in vain waited until $what"
}
