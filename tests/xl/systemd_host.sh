# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Hosts with a systemd of the test's own, in namespaces, and our units. Sourced after check.sh.

# shellcheck disable=SC2154  # t and glue come from check.sh
# shellcheck disable=SC2016  # what stands in single quotes runs elsewhere

[[ $(id -u) == 0 ]] || skip "namespaces need root"
[[ -x /lib/systemd/systemd ]] || skip "no systemd"
hierarchy=$(awk '$3 == "cgroup" && $4 ~ /name=systemd/ || $3 == "cgroup2" { print $2; exit }' \
    /proc/mounts)
readonly hierarchy
[[ -w ${hierarchy:-/nowhere} ]] || skip "no cgroups to give to systemd"

# Standard input: a program in C in tapdisk's place.
prepare_units() {
    local unit stock=/usr/lib/systemd/system
    mkdir -p "$t/units" "$t/usr/lib/systemd/system-shutdown"
    cc -x c - -o "$t/tapdisk" -lsystemd
    for unit in basic sysinit shutdown umount final reboot local-fs remote-fs slices; do
        cp "$stock/$unit.target" "$t/units/"
    done
    cp "$stock/systemd-reboot.service" "$glue"/systemd/* "$t/units/"
    sed -i "s|/usr/sbin/tapdisk|$t/tapdisk|; /^ExecStopPost/,/left %i'$/d" \
        "$t/units/blktap-tapdisk@.service"
    printf '%s\n' '[Unit]' 'Requires=basic.target' 'After=basic.target' >"$t/units/default.target"
}

# Runs a script in a host of its own, until that is off or the time is up.
host() { # SCRIPT
    printf '%s\n' '#!/bin/bash' "exec >$t/said 2>&1" 'set -x' "$1" >"$t/script"
    cat >"$t/units/script.service" <<END
[Service]
ExecStart=/bin/bash $t/script
END
    mkdir -p "$t/units/default.target.wants"
    ln -s ../script.service "$t/units/default.target.wants/"
    mkdir "$hierarchy/blktap-test-$$"
    # systemd in a namespace ends by a signal.
    { timeout -k 1 120 bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - \
        "$hierarchy/blktap-test-$$" unshare --mount --pid --fork --kill-child --cgroup --uts --ipc \
        --mount-proc bash -c '
            mount -t tmpfs none /run
            # What is mounted there a shutdown leaves alone.
            mount -t overlay -o lowerdir="$1/usr:/usr" none /usr
            export container=test SYSTEMD_UNIT_PATH=$1/units SYSTEMD_GENERATOR_PATH=/nowhere
            exec /lib/systemd/systemd --system --show-status=no' - "$t" \
        >"$t/log" 2>&1 </dev/null || :; } 2>/dev/null
    # What has ended may be taking its own away at this moment.
    find "$hierarchy/blktap-test-$$" -depth -type d -exec rmdir {} + 2>/dev/null || :
    [ ! -e "$hierarchy/blktap-test-$$" ] || die "a control group is left"
}
