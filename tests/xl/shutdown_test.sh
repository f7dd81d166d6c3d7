#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Our units under a systemd of the test's own, in namespaces: a host that shuts down takes no disk
# away, and nobody can by a slip. In tapdisk's place is a program that only says that it is ready.

# shellcheck disable=SC2317  # cases are called by their name
# shellcheck disable=SC2016  # and scripts in single quotes run elsewhere

. "$(dirname "$0")/check.sh"

[[ $(id -u) == 0 ]] || skip "namespaces need root"
[[ -x /lib/systemd/systemd ]] || skip "no systemd"
hierarchy=$(awk '$3 == "cgroup" && $4 ~ /name=systemd/ || $3 == "cgroup2" { print $2; exit }' \
    /proc/mounts)
readonly hierarchy
[[ -w ${hierarchy:-/nowhere} ]] || skip "no cgroups to give to systemd"

prepare() {
    local unit stock=/usr/lib/systemd/system
    local hooks=$t/usr/lib/systemd/system-shutdown
    mkdir -p "$t/units" "$hooks"
    printf '%s\n' '#include <systemd/sd-daemon.h>' '#include <unistd.h>' \
        'int main(void) { sd_notify(0, "READY=1"); for (;;) pause(); }' |
        cc -x c - -o "$t/tapdisk" -lsystemd
    for unit in basic sysinit shutdown umount final reboot local-fs remote-fs slices; do
        cp "$stock/$unit.target" "$t/units/"
    done
    cp "$stock/systemd-reboot.service" "$glue"/systemd/* "$t/units/"
    sed -i "s|/usr/sbin/tapdisk|$t/tapdisk|; /^ExecStopPost/,/left %i'$/d" \
        "$t/units/blktap-tapdisk@.service"
    printf '%s\n' '[Unit]' 'Requires=basic.target' 'After=basic.target' >"$t/units/default.target"
    # Like xendomains: shuts guests down, which need their disks as long as that takes.
    cat >"$t/units/guests.service" <<END
[Unit]
After=remote-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'sleep 2; pgrep -c -x tapdisk >$t/while-guests-stop'
END
    # When all processes have been killed, as the last of all.
    printf '%s\n' '#!/bin/sh' "pgrep -c -x tapdisk >$t/before-power-off" >"$hooks/test"
    chmod +x "$hooks/test"
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
    find "$hierarchy/blktap-test-$$" -depth -type d -exec rmdir {} +
}

saw() { # FILE: the number of tapdisks that were seen
    cat "$t/$1" 2>/dev/null || echo "nobody was asked: $(tail -n 20 "$t/log" "$t/said")"
}

case_guests_have_their_disks_until_the_host_is_off() {
    host 'systemctl start guests.service blktap-tapdisk@vbd-{1,2}-51712.service
        systemctl reboot'
    same "while guests are stopped" 2 "$(saw while-guests-stop)"
    same "before the power is off" 2 "$(saw before-power-off)"
}

case_nobody_stops_a_disk_by_a_slip() {
    host 'disk=blktap-tapdisk@vbd-1-51712.service
        systemctl start $disk
        systemctl stop $disk
        systemctl restart $disk
        systemctl is-active $disk
        systemctl reboot'
    same "refused" 2 "$(grep -c "^Failed to .* blktap-tapdisk.*: Operation refused" "$t/said")"
    grep -qx active "$t/said" || die "$(cat "$t/said")"
    same "before the power is off" 1 "$(saw before-power-off)"
}

case_the_script_can_end_one() {
    host 'disk=blktap-tapdisk@vbd-1-51712.service
        systemctl start $disk
        systemctl kill --kill-whom=main --signal=TERM $disk
        until systemctl show --property=ActiveState $disk | grep -qx ActiveState=inactive; do
            sleep 0.1
        done
        systemctl reboot'
    same "before the power is off" 0 "$(saw before-power-off)"
}

# Guests' data is in it.
case_its_memory_is_not_dumped() {
    host 'systemctl start blktap-tapdisk@vbd-1-51712.service
        cat "/proc/$(pgrep -x tapdisk)/limits"
        systemctl reboot'
    grep -q '^Max core file size  *0  *0 ' "$t/said" || die "$(cat "$t/said")"
}

run_cases
