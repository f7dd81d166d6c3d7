#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What others do to the hotplug script, in the made-up world: programs that have the image, the
# administrator by settings and drop-ins, the frontend by closing.

# shellcheck disable=SC2016  # what stands in single quotes is for the stubs
# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"
. "$(dirname "$0")/tapzc_world.sh"

readonly unit=blktap-tapdisk@$vbd.service

open_file_of() { # PID NAME FILE: with a lock
    mkdir -p "$t/proc/$1"/fd{,info}
    echo "$2" >"$t/proc/$1/comm"
    ln -s "$3" "$t/proc/$1/fd/5"
    printf 'pos:\t0\nlock:\t1: OFDLCK  ADVISORY  READ -1 08:01:4711 100 101\n' \
        >"$t/proc/$1/fdinfo/5"
}

case_image_in_use_by_a_program() {
    fail_start
    echo "$image: in use by another program, which lets nobody write" >"$t/unit/StatusText"
    open_file_of 11 qemu-img /dev/null
    run add
    expect_refused "$image: in use by another program, which lets nobody write"
    open_file_of 12 tapdisk "$image"
    open_file_of 13 qemu-nbd "$image"
    store backend/vbd/3/51712/hotplug-status ""
    run add
    expect_refused "$image: in use by process 13 (qemu-nbd), which lets nobody write"
}

settings() {
    mkdir -p "$t/etc/default"
    echo "$1" >"$t/etc/default/blktap"
}

case_settings_that_fail_refuse_the_disk() {
    settings 'TAPDISK_OPTIONS=$unset_variable'
    run add
    expect_refused "$t/etc/default/blktap: $t/etc/default/blktap: line 1: unset_variable: \
unbound variable"
    settings 'exit 0'
    run add
    expect_refused "$t/etc/default/blktap: it does not come to its end"
    settings 'image=/etc/shadow args=() mode=r'
    store backend/vbd/3/51712/hotplug-status ""
    run add
    expect_attached
    same physical-device-path "$image" "$(stored physical-device-path)"
}

case_frontend_may_close_once_before_it_starts() {
    local state
    store backend/vbd/3/51712/online 1
    for state in 5 6; do
        store backend/vbd/3/51712/state $state
        store backend/vbd/3/51712/hotplug-status ""
        unit_is inactive
        run add
        expect_attached
    done
    store backend/vbd/3/51712/online 0
    store backend/vbd/3/51712/hotplug-status ""
    unit_is inactive
    run add
    same hotplug-error "$vbd is not waiting for a disk (state 6)" "$(stored hotplug-error)"
}

case_unit_in_a_slice_of_its_own() {
    run add
    mkdir -p "$t/sys/fs/cgroup/a.slice/a-b.slice"
    mv "$t/sys/fs/cgroup/blktap.slice/$unit" "$t/sys/fs/cgroup/a.slice/a-b.slice/"
    (/bin/sleep 2; rmdir "$t/sys/fs/cgroup/a.slice/a-b.slice/$unit") &
    local begun=$SECONDS
    run remove
    expect_success
    ((SECONDS - begun >= 1)) || die "it did not wait"
    grep -q "^kill --kill-whom=main --signal=TERM $unit" "$t/systemctl.log"
}

run_cases
