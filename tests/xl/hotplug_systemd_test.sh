#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The hotplug program under a systemd of the test's own, with a made-up xenstore: units start and
# end as it says, and what it says of them is true. In tapdisk's place is a program that does what
# /run/how tells it.
#   hotplug_systemd_test.sh HOTPLUG libfake-xenstore.so

# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"

hotplug=$(realpath "$1")
store_library=$(realpath "$2")
. "$(dirname "$0")/systemd_host.sh"

prepare() {
    prepare_units <<'END'
#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

int main(void)
{
	FILE *file = fopen("/run/how", "r");
	int how = file ? fgetc(file) : 'r';

	if (how == 'f') {
		sd_notify(0, "STATUS=/srv/a.img: Structure needs cleaning");
		return 1;
	}
	if (how == 'r')
		sd_notify(0, "READY=1");
	for (;;)
		pause();
}
END
    echo data >"$t/a.img"
    printf 'backend/vbd/3/51712/%s\n' state=2 online=1 mode=w "params=$t/a.img" >"$t/store"
    # No driver has the vbd, as with tap:gnt: disks.
    cat >"$t/run-hotplug" <<END
#!/bin/bash
exec unshare --mount bash -c 'mount -t tmpfs none /sys
    LD_PRELOAD=$store_library FAKE_XENSTORE=$t/store XENBUS_PATH=backend/vbd/3/51712 \
        exec $hotplug block-tapgnt "\$1"' - "\$1"
END
    chmod +x "$t/run-hotplug"
}

stored() {
    sed -n "s|^backend/vbd/3/51712/$1=||p" "$t/store"
}

readonly disk=blktap-tapdisk@vbd-3-51712.service

case_add_and_remove() {
    host "$t/run-hotplug add; systemctl is-active $disk; ls /run/blktap
        $t/run-hotplug remove; systemctl is-active $disk; ls /run/blktap
        systemctl reboot"
    same hotplug-status connected "$(stored hotplug-status)"
    same "what was there" "active vbd-3-51712.json inactive" \
        "$(grep -E '^(active|inactive|failed|vbd-.*)$' "$t/said" | paste -sd' ')"
}

case_tapdisk_says_why_it_does_not_start() {
    host "echo f >/run/how
        $t/run-hotplug add; echo status \$?; systemctl is-active $disk; ls /run/blktap
        systemctl reboot"
    same hotplug-error "$t/a.img: /srv/a.img: Structure needs cleaning" "$(stored hotplug-error)"
    same "what was there" "status 1 inactive" \
        "$(grep -E '^(status .*|active|inactive|failed|vbd-.*)$' "$t/said" | paste -sd' ')"
}

case_an_interrupted_add_is_undone() {
    host "echo n >/run/how
        $t/run-hotplug add & until systemctl is-active $disk | grep activating; do sleep 0.1; done
        pkill -TERM -x hotplug; wait \$!; echo status \$?; systemctl is-active $disk
        ls /run/blktap; systemctl reboot"
    same hotplug-error interrupted "$(stored hotplug-error)"
    same "what was there" "activating status 1 inactive" \
        "$(grep -E '^(status .*|acti.*|inactive|failed|vbd-.*)$' "$t/said" | paste -sd' ')"
}

case_unit_in_a_slice_of_its_own() {
    mkdir "$t/units/blktap-tapdisk@.service.d"
    printf '[Service]\nSlice=guests-a.slice\n' >"$t/units/blktap-tapdisk@.service.d/slice.conf"
    host "$t/run-hotplug add; systemctl show --property=ControlGroup $disk
        $t/run-hotplug remove; pgrep -x tapdisk || echo it has ended
        systemctl reboot"
    grep -q '^ControlGroup=.*guests-a.slice' "$t/said" || die "$(cat "$t/said")"
    grep -qx 'it has ended' "$t/said" || die "$(cat "$t/said")"
}

run_cases
