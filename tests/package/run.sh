#!/usr/bin/env bash
# Installs a Debian package, starts what its unit starts, upgrades to another package while clients ask, and removes it.
# usage, as root: run.sh OLD.deb NEW.deb
#
# In namespaces of its own, with copies on top of the machine's folders: nothing of it is seen outside, and no port is taken.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# shellcheck source=common.sh
. "$here/common.sh"

if [ -z "${PACKAGE_TRIAL:-}" ]; then
    export PACKAGE_TRIAL=1
    exec unshare --mount --net --pid --fork --kill-child --mount-proc "$0" "$(realpath "$1")" "$(realpath "$2")"
fi
old=$1 new=$2

layers=$(mktemp -d)
mount -t tmpfs tmpfs "$layers"
cp "$old" "$layers/old.deb"
cp "$new" "$layers/new.deb"
cp "$here/load.py" "$layers/"
for folder in etc usr var; do
    mkdir -p "$layers/$folder/upper" "$layers/$folder/work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$layers/$folder/upper,workdir=$layers/$folder/work" "/$folder"
done
# No service manager: what its unit says is done by hand below.
mount -t tmpfs tmpfs /run
ip link set lo up
export DEBIAN_FRONTEND=noninteractive
state=/var/lib/phalanx
unit=/lib/systemd/system/phalanx.service

fail() {
    echo "FAILED: $*" >&2
    cat "$layers/node.log" >&2 2>/dev/null || true
    exit 1
}
process() { phalanx status --json --state $state | python3 -c 'import json, sys; print(json.load(sys.stdin)["process"]["id"])'; }
of_unit() { sed -n "s/^$1=//p" $unit; }

dpkg -i "$layers/old.deb" >/dev/null
getent passwd phalanx >/dev/null || fail "the package makes no user"
[ "$(stat -c '%U:%G %a' /etc/phalanx /etc/phalanx/policy.toml | tr '\n' ' ')" = "root:phalanx 750 root:phalanx 640 " ] ||
    fail "modes of /etc/phalanx: $(stat -c '%n %U:%G %a' /etc/phalanx /etc/phalanx/*)"
phalanx check -c /etc/phalanx/phalanx.toml || fail "the settings that it brings have faults"
say "installed; user, modes and settings are in order"
zcat /usr/share/man/man1/phalanx-policy-push.1.gz | grep -q canary || fail "the package has no man pages"
bash -c 'source /usr/share/bash-completion/completions/phalanx && complete -p phalanx' >/dev/null || fail "bash completes nothing"
for file in settings policy test; do
    python3 -m json.tool "/usr/share/phalanx/$file.schema.json" >/dev/null || fail "the schema of $file is no JSON"
done
say "man pages, completions and schemas are there"
if command -v systemd-analyze >/dev/null; then
    systemd-analyze verify $unit || fail "the unit has faults"
    exposure=$(systemd-analyze security --offline=yes --threshold=20 $unit | tail -n 1) || fail "the unit is too open: $exposure"
    say "unit: $exposure"
fi

python3 -m http.server 3000 --bind 127.0.0.1 --directory /usr/share/doc/phalanx >/dev/null 2>&1 &
install -d -o phalanx -g phalanx -m "$(of_unit StateDirectoryMode)" $state
# As the unit says it: user, capabilities, no new privileges, where the state is.
read -ra start <<<"$(of_unit ExecStart)"
capability=$(of_unit AmbientCapabilities | tr '[:upper:]' '[:lower:]')
capability=${capability#cap_}
setpriv --reuid "$(of_unit User)" --regid "$(of_unit Group)" --init-groups --no-new-privs \
    --bounding-set "-all,+$capability" --inh-caps "-all,+$capability" --ambient-caps "-all,+$capability" \
    env "STATE_DIRECTORY=$state" "${start[@]}" >"$layers/node.log" 2>&1 </dev/null &
until_true "the node serves" curl -fsS http://127.0.0.1:8080/upgrades.md
phalanx status --state $state | grep -A 4 '^process' || fail "no status"
before=$(process)

# Keep-alive and new connections, all the time.
python3 "$layers/load.py" "$layers/stop" >"$layers/load" 2>&1 &
load=$!
echo '# looked at by an operator' >>/etc/phalanx/policy.toml
dpkg -i "$layers/new.deb" | grep -i 'took over' || fail "the running node was not followed"
after=$(process)
[ "$before" != "$after" ] || fail "the process is still $before"
until_true "the old process ends" test ! -d "/proc/$before"
grep -q 'looked at by an operator' /etc/phalanx/policy.toml || fail "the operator's settings were replaced"
touch "$layers/stop"
wait $load || fail "the clients: $(cat "$layers/load")"
read -r failed served rest <"$layers/load"
[ "$failed" = 0 ] || fail "$failed of $((failed + served)) requests failed: $rest"
say "upgraded from process $before to $after: 0 of $served requests failed"

kill -TERM "$after"
until_true "the node stops" test ! -d "/proc/$after"
dpkg -r phalanx >/dev/null
[ ! -e /usr/bin/phalanx ] || fail "the binary is still there"
[ -e /etc/phalanx/policy.toml ] || fail "settings must stay until the package is purged"
dpkg -P phalanx >/dev/null
[ ! -e /etc/phalanx ] && [ ! -e $state ] || fail "settings or state are still there"
say "removed, and purged"
