#!/usr/bin/env bash
# Installs a Debian package on a system that systemd runs; has systemd start, reload, watch, activate and stop the service, and dpkg
# upgrade it while clients ask.
# usage, as root: systemd.sh OLD.deb NEW.deb
#
# systemd is the first process of namespaces of its own, on a copy on top of the machine's files: nothing of it is seen outside. It starts
# its journal, the second half of this script, and what that asks for.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

# Outside: a control group for the trial, and its end.
outside() {
    skip() {
        echo "skipped: package under systemd: $*"
        exit 0
    }
    [ -x /lib/systemd/systemd ] || { [ -z "${CI:-}" ] && skip "systemd is not installed"; fail "CI has no systemd"; }
    work=$(mktemp -d)
    mkdir "$work/groups"
    # systemd takes the hierarchy for itself, so it gets a branch.
    mount -t cgroup2 none "$work/groups" 2>/dev/null || skip "control groups (cgroup2) cannot be mounted"
    group=$work/groups/phalanx-trial-$$
    mkdir "$group" || skip "control groups cannot be made"
    local result=0
    # shellcheck disable=SC2016
    timeout --kill-after=5 "${PACKAGE_TRIAL_SECONDS:-150}" \
        sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" \
        env PACKAGE_TRIAL=beginning unshare --mount --net --pid --cgroup --uts --ipc --fork --kill-child \
        "$0" "$1" "$2" "$work" || result=$?
    cat "$work/said" || result=1
    [ "$result" = 0 ] || tail -n 60 "$work/journal" 2>/dev/null || true
    # All that was in it ended with its first process, a moment ago.
    for _ in $(seq 100); do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        [ -d "$group" ] || break
        sleep 0.05
    done
    umount "$work/groups"
    rm -rf "$work"
    exit "$result"
}

# In the namespaces: a system of files, and systemd in it.
beginning() {
    local layers root units
    layers=$(mktemp -d)
    mount -t tmpfs tmpfs "$layers"
    root=$layers/root
    mkdir "$layers/upper" "$layers/work" "$root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
    for folder in run tmp dev; do mount -t tmpfs tmpfs "$root/$folder"; done
    for node in null zero full random urandom tty; do
        touch "$root/dev/$node"
        mount --bind "/dev/$node" "$root/dev/$node"
    done
    mkdir "$root/dev/pts" "$root/dev/shm" "$root/trial" "$root/before"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    mount --bind "$3" "$root/trial"
    cp "$1" "$root/trial/old.deb"
    cp "$2" "$root/trial/new.deb"
    cp "$0" "$here/common.sh" "$here/load.py" "$root/trial/"
    ip link set lo up
    # Of the machine's own services and mounts none is to start; and what a service waits for at a boot is there.
    units=$root/etc/systemd/system
    rm -rf "$units" && mkdir "$units"
    : >"$root/etc/fstab"
    for target in sysinit basic network-online; do
        printf '[Unit]\nDefaultDependencies=no\n' >"$units/$target.target"
    done
    printf '[Unit]\nRequires=systemd-journald.service trial.service\n' >"$units/trial.target"
    cat >"$units/trial.service" <<'UNIT'
[Unit]
DefaultDependencies=no
Requires=systemd-journald.service
After=systemd-journald.service
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
Environment=PACKAGE_TRIAL=inside
ExecStart=/bin/bash /trial/systemd.sh
StandardOutput=append:/trial/said
StandardError=append:/trial/said
UNIT
    cd "$root"
    pivot_root . before
    umount --lazy /before
    exec env -i PATH="$PATH" container=trial TERM=dumb /lib/systemd/systemd --system --unit=trial.target \
        --log-target=null --show-status=no
}

fail() {
    echo "FAILED: $*" >&2
    if [ "${PACKAGE_TRIAL:-}" = inside ]; then
        systemctl status --no-pager --full phalanx.service >&2 || true
        journalctl --no-pager -o short-monotonic >/trial/journal 2>&1 || true
    fi
    exit 1
}
of_unit() { systemctl show --value --property "$1" phalanx.service; }
is() { [ "$(of_unit "$1")" = "$2" ]; }
page() { curl -fsS -m 20 http://127.0.0.1:8080/upgrades.md; }
load() {
    rm -f /trial/stop
    python3 /trial/load.py /trial/stop >/trial/load 2>&1 &
    loading=$!
}
no_request_failed() {
    local failed served rest
    touch /trial/stop
    wait "$loading" || fail "the clients: $(cat /trial/load)"
    read -r failed served rest </trial/load
    [ "$failed" = 0 ] || fail "$1: $failed of $((failed + served)) requests failed: $rest"
    say "$1: 0 of $served requests failed"
}

# Under systemd.
inside() {
    export DEBIAN_FRONTEND=noninteractive
    python3 -m http.server 3000 --bind 127.0.0.1 --directory /usr/share/doc/phalanx >/dev/null 2>&1 &

    dpkg -i /trial/old.deb >/trial/dpkg 2>&1 || fail "dpkg: $(cat /trial/dpkg)"
    until_true "it is active" is ActiveState active
    [ "$(systemctl is-enabled phalanx.service)" = enabled ] || fail "it is not enabled"
    until_true "it serves" page
    local first
    first=$(of_unit MainPID)
    [ "$(ps -o user= -p "$first")" = phalanx ] || fail "it runs as $(ps -o user= -p "$first")"
    say "installed, enabled and started as process $first: $(of_unit StatusText)"

    journalctl -u phalanx.service -o json --no-pager | python3 -c '
import json, sys
lines = [json.loads(line) for line in sys.stdin]
own = [line for line in lines if line.get("_COMM") == "phalanx"]
assert own and all(line["_SYSTEMD_UNIT"] == "phalanx.service" for line in own), lines
print("  journal:", len(own), "lines, as", own[0]["MESSAGE"][:100])
' || fail "the journal has nothing of it"

    echo 'maintenance = { retry_after = "30m" }' >>/etc/phalanx/policy.toml
    systemctl reload phalanx.service || fail "it is not reloaded"
    until_true "the new policy is in force" sh -c '[ "$(curl -s -o /dev/null -w "%{http_code}" http://127.0.0.1:8080/)" = 503 ]'
    sed -i '/^maintenance/d' /etc/phalanx/policy.toml
    systemctl reload phalanx.service
    until_true "the old policy is in force again" page
    load
    for _ in 1 2 3; do systemctl reload phalanx.service && sleep 0.2; done
    no_request_failed "3 reloads"
    is MainPID "$first" || fail "a reload is a restart"

    load
    dpkg -i /trial/new.deb 2>&1 | grep -i 'took over' || fail "the running service was not followed"
    until_true "systemd knows the new process" sh -c "[ \"\$(systemctl show --value -p MainPID phalanx.service)\" != $first ]"
    until_true "the old process ends" test ! -d "/proc/$first"
    no_request_failed "upgraded from process $first to $(of_unit MainPID)"
    is ActiveState active && is NRestarts 0 || fail "systemd took the upgrade for an end"

    # A process that does nothing any more is replaced.
    mkdir -p /run/systemd/system/phalanx.service.d
    printf '[Service]\nWatchdogSec=2s\n' >/run/systemd/system/phalanx.service.d/watchdog.conf
    systemctl daemon-reload
    systemctl restart phalanx.service || fail "it is not restarted"
    kill -STOP "$(of_unit MainPID)"
    until_true "systemd notices that it hangs" is NRestarts 1
    until_true "it serves again" page
    say "a process that hung was replaced: $(of_unit Result), restarts $(of_unit NRestarts)"

    # Stopped, it ends by itself and in time.
    systemctl stop phalanx.service || fail "it is not stopped"
    is Result success && is ActiveState inactive || fail "it ended by $(of_unit Result)"
    pgrep -u phalanx >/dev/null && fail "processes stay: $(pgrep -a -u phalanx)"
    say "stopped: $(of_unit Result)"

    # Its socket stays open, and the first who comes starts it.
    sed -e '/^ListenStream/d' -e 's/^\[Socket\]/&\nListenStream=127.0.0.1:8080/' \
        /usr/share/doc/phalanx/examples/phalanx.socket >/etc/systemd/system/phalanx.socket
    systemctl daemon-reload
    systemctl start phalanx.socket || fail "the socket does not open"
    is ActiveState inactive || fail "it runs before anybody came"
    page >/dev/null || fail "who comes first is not served"
    # It serves a moment before it says that it is ready.
    until_true "the socket started it" is ActiveState active
    load
    systemctl restart phalanx.service || fail "it does not restart with its socket"
    touch /trial/stop && wait "$loading" || true
    local failed served rest
    read -r failed served rest </trial/load
    echo "$rest" | grep -q 'Refused' && fail "a restart refused connections: $rest"
    say "activated by its socket; in a restart no connection was refused ($failed of $((failed + served)) were cut: $rest)"

    systemctl stop phalanx.socket phalanx.service
    dpkg -P phalanx >/trial/dpkg 2>&1 || fail "dpkg: $(cat /trial/dpkg)"
    [ ! -e /etc/phalanx ] && [ ! -e /var/lib/phalanx ] || fail "settings or state are still there"
    [ -z "$(systemctl list-units --all --no-legend 'phalanx.service')" ] || systemctl daemon-reload
    say "removed and purged"
}

case ${PACKAGE_TRIAL:-} in
'') outside "$(realpath "$1")" "$(realpath "$2")" ;;
beginning) beginning "$@" ;;
inside) inside ;;
esac
