#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The hotplug script by its other name, for disks without the module.

# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"
. "$(dirname "$0")/tapzc_world.sh"

by_grants() {
    ln -s "$glue/block-tapzc" "$t/block-tapgnt"
    script=$t/block-tapgnt
    echo 4711 >"$t/unit/MainPID"
}

case_no_driver_keeps_the_vbd() {
    by_grants
    ln -sfn ../../drivers/vbd "$bus/devices/$vbd/driver"
    mkfifo "$bus/drivers/vbd/unbind"
    (read -r what <"$bus/drivers/vbd/unbind"
     rm "$bus/devices/$vbd/driver"
     echo "unbound $what" >>"$t/log") &
    stub readlink <<'END'
/bin/sleep 0.2
exec /bin/readlink "$@"
END
    run add
    expect_attached
    grep -q "unbound $vbd" "$t/log"
    same args \
        "--vbd $vbd --image $image --identity $(identity "$image") --backend backend/vbd/3/51712 \
--vm 1f0e2d3c-0000-0000-0000-00000000abcd --source grants" \
        "$(args)"
}

# xen-blkback would open it, where it gets the vbd to close it.
case_device_is_not_named_to_xen_blkback() {
    by_grants
    rm "$bus/devices/$vbd/driver"
    device_as_image
    run add
    expect_attached
    same physical-device-path "$image" "$(stored physical-device-path)"
    same physical-device "" "$(stored physical-device)"
}

case_driver_that_stays() {
    by_grants
    ln -sfn ../../drivers/vbd "$bus/devices/$vbd/driver"
    run add
    expect_refused "$vbd is bound to vbd, which does not let it go"
    expect_not_started
}

case_option_without_meaning_is_ignored() {
    by_grants
    rm "$bus/devices/$vbd/driver"
    mkdir -p "$t/etc/default"
    echo 'TAPDISK_OPTIONS="--poll-us 50 --data-path=submit --engine libaio"' \
        >"$t/etc/default/blktap"
    run add
    expect_attached
    [[ $(args) == *"--source grants --engine libaio" ]] || die "args: $(args)"
    grep -q "poll-us means nothing for a tap:gnt: disk" "$t/log"
}

case_no_driver_is_needed() {
    by_grants
    rm "$bus/devices/$vbd/driver"
    run add
    expect_attached
}

# What its unit does last would take the new one's arguments away, and bind the vbd.
case_earlier_tapdisk_is_stopped_first() {
    by_grants
    unit_is active
    stub modprobe <<'END'
echo "modprobe: $(cat "$t/unit/ActiveState"), $(ls "$t/run/blktap" 2>/dev/null | wc -l) files" \
    >>"$t/log"
rm "$t"/sys/bus/xen-backend/devices/vbd-3-51712/driver
END
    run add
    expect_attached
    grep -q '^kill --kill-whom=main --signal=TERM' "$t/systemctl.log"
    grep -qx 'modprobe: inactive, 0 files' "$t/log"
}

# Binding goes through a file of the driver, which sysfs has and the made-up one has not yet.
case_failure_gives_the_vbd_back() {
    by_grants
    rm "$bus/devices/$vbd/driver" "$image"
    : >"$bus/drivers/vbd/bind"
    run add
    expect_refused "$image: No such file or directory"
    same bound "$vbd" "$(cat "$bus/drivers/vbd/bind")"
}

case_tapdisk_that_ended_leaves_a_vbd_that_can_be_closed() {
    rm -r "$bus/devices/$vbd/driver" "$t/sys/class/blktap"
    store backend/vbd/3/51712/state 4
    mkdir -p "$t/run/blktap"
    touch "$t/run/blktap/$vbd".{args,sock}
    path=none run left "$vbd"
    expect_success
    same bound "$vbd" "$(cat "$bus/drivers/vbd/bind")"
    run remove
    expect_success
    nothing_left
}

case_tapdisk_that_ended_when_all_was_closed() {
    rm -r "$bus/devices/$vbd/driver" "$t/sys/class/blktap"
    for state in 6 ''; do
        store backend/vbd/3/51712/state "$state"
        run left "$vbd"
        expect_success
    done
    [[ ! -e $bus/drivers/vbd/bind ]] || die "it was bound"
}

run_cases
