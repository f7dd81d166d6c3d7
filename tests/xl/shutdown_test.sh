#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Our units under a systemd of the test's own, in namespaces: a host that shuts down takes no disk
# away. In tapdisk's place is a program that only says that it is ready, and alive.

# shellcheck disable=SC2317  # cases are called by their name
# shellcheck disable=SC2016  # and scripts in single quotes run elsewhere

. "$(dirname "$0")/check.sh"

. "$(dirname "$0")/systemd_host.sh"

prepare() {
    local hooks=$t/usr/lib/systemd/system-shutdown
    printf '%s\n' '#include <systemd/sd-daemon.h>' '#include <unistd.h>' \
        'int main(void) { sd_notify(0, "READY=1");' \
        'for (;; sleep(5)) sd_notify(0, "WATCHDOG=1"); }' | prepare_units
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

# What the hotplug program leaves for them.
readonly records='mkdir /run/blktap; touch /run/blktap/vbd-{1,2}-51712.json
        '

saw() { # FILE: the number of tapdisks that were seen
    cat "$t/$1" 2>/dev/null || echo "nobody was asked: $(tail -n 20 "$t/log" "$t/said")"
}

case_guests_have_their_disks_until_the_host_is_off() {
    host "$records"'systemctl start guests.service blktap-tapdisk@vbd-{1,2}-51712.service
        systemctl reboot'
    same "while guests are stopped" 2 "$(saw while-guests-stop)"
    same "before the power is off" 2 "$(saw before-power-off)"
}

case_a_restart_and_a_signal_are_another_process() {
    host "$records"'disk=blktap-tapdisk@vbd-1-51712.service
        systemctl start $disk
        systemctl show --property=MainPID $disk
        systemctl restart $disk
        systemctl show --property=MainPID $disk
        for signal in HUP TERM; do
            before=$(systemctl show --property=MainPID $disk)
            systemctl kill --kill-whom=main --signal=$signal $disk
            until systemctl is-active --quiet $disk &&
                [ "$(systemctl show --property=MainPID $disk)" != "$before" ]; do
                sleep 0.1
            done
            systemctl show --property=MainPID $disk
        done
        systemctl is-active $disk
        systemctl reboot'
    same "processes" 4 "$(grep '^MainPID=[1-9]' "$t/said" | sort -u | wc -l)"
    grep -qx active "$t/said" || die "$(cat "$t/said")"
    same "before the power is off" 1 "$(saw before-power-off)"
}

case_the_script_can_end_one() {
    host "$records"'disk=blktap-tapdisk@vbd-1-51712.service
        systemctl start $disk
        rm /run/blktap/vbd-1-51712.json
        systemctl kill --kill-whom=main --signal=TERM $disk
        until systemctl show --property=ActiveState $disk | grep -qx ActiveState=inactive; do
            sleep 0.1
        done
        systemctl reboot'
    same "before the power is off" 0 "$(saw before-power-off)"
}

# Guests' data is in it.
case_its_memory_is_not_dumped() {
    host "$records"'systemctl start blktap-tapdisk@vbd-1-51712.service
        cat "/proc/$(pgrep -x tapdisk)/limits"
        systemctl reboot'
    grep -q '^Max core file size  *0  *0 ' "$t/said" || die "$(cat "$t/said")"
}

run_cases
