#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The hotplug script against a made-up xenstore, systemd and /sys: that each failure gives its
# message and leaves nothing behind.

# shellcheck disable=SC2016  # what stands in single quotes is for the stubs
# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"
. "$(dirname "$0")/tapzc_world.sh"

readonly unit=blktap-tapdisk@$vbd.service

case_add_connects() {
    run add
    expect_attached
    same physical-device-path "$image" "$(stored physical-device-path)"
    same physical-device "" "$(stored physical-device)"
    same args "--vbd $vbd --image $image --identity $(identity "$image") \
--backend backend/vbd/3/51712 --vm 1f0e2d3c-0000-0000-0000-00000000abcd" "$(args)"
    same mode 600 "$(stat -c %a "$t/run/blktap/$vbd.args")"
    grep -q "^start $unit" "$t/systemctl.log"
}

case_add_twice_starts_once() {
    run add
    : >"$t/systemctl.log"
    run add
    expect_success
    expect_not_started
}

case_readonly_cdrom_removable_and_defaults() {
    store backend/vbd/3/51712/mode r
    store backend/vbd/3/51712/device-type cdrom
    store backend/vbd/3/51712/removable 1
    chmod 444 "$image"
    mkdir -p "$t/etc/default"
    echo 'TAPDISK_OPTIONS="--engine libaio"' >"$t/etc/default/blktap"
    run add
    expect_attached
    same args "--vbd $vbd --image $image --identity $(identity "$image") \
--backend backend/vbd/3/51712 --vm 1f0e2d3c-0000-0000-0000-00000000abcd --read-only \
--cdrom --removable --engine libaio" "$(args)"
}

case_options_may_depend_on_the_disk() {
    mkdir -p "$t/etc/default"
    cat >"$t/etc/default/blktap" <<'END'
[[ $image == */disk.img && $vbd == vbd-3-* && $domid == 3 ]] && TAPDISK_OPTIONS=--no-discard
END
    run add
    same "last argument" --no-discard "$(tail -1 "$t/run/blktap/$vbd.args")"
    echo '[[ $image == */other.img ]] && TAPDISK_OPTIONS=--no-discard' >"$t/etc/default/blktap"
    run remove
    store backend/vbd/3/51712/hotplug-status ""
    run add
    expect_attached
    same "last argument" 1f0e2d3c-0000-0000-0000-00000000abcd "$(tail -1 "$t/run/blktap/$vbd.args")"
}

case_image_path_is_as_the_user_wrote_it_and_may_hold_anything() {
    local odd=$t/img/$'a b,c:d\\x41 \xc3\xbc "'\''$(true).img'
    echo data >"$odd"
    ln -s "$odd" "$t/img/link"
    store backend/vbd/3/51712/params "$t/img/link"
    run add
    expect_attached
    same physical-device-path "$odd" "$(stored physical-device-path)"
    same "image argument" "$t/img/link" "$(sed -n 4p "$t/run/blktap/$vbd.args")"
}

case_vbd3_params_have_a_format() {
    mkdir "$bus"/devices/vbd3-3-51712
    ln -s ../../drivers/blktap "$bus"/devices/vbd3-3-51712/driver
    store backend/vbd3/3/51712/state 2
    store backend/vbd3/3/51712/mode w
    store backend/vbd3/3/51712/params "aio:$image"
    path=backend/vbd3/3/51712 run add
    expect_success
    same "image argument" "$image" "$(sed -n 4p "$t/run/blktap/$vbd.args")"
}

case_owner_of_a_stub_domain_is_its_target() {
    store /local/domain/3/target 2
    store /local/domain/2/vm /vm/22222222-0000-0000-0000-000000000000-1
    run add
    expect_attached
    same "vm argument" 22222222-0000-0000-0000-000000000000 \
        "$(sed -n 10p "$t/run/blktap/$vbd.args")"
}

case_owner_of_a_local_attach_is_dom0() {
    mkdir "$bus"/devices/vbd-0-51712
    ln -s ../../drivers/blktap "$bus"/devices/vbd-0-51712/driver
    mv "$t/sys/class/blktap/$vbd" "$t"/sys/class/blktap/vbd-0-51712
    store backend/vbd/0/51712/state 2
    store backend/vbd/0/51712/mode r
    store backend/vbd/0/51712/params "$image"
    path=backend/vbd/0/51712 run add
    expect_success
    same "vm argument" 00000000-0000-0000-0000-000000000000 \
        "$(sed -n 10p "$t/run/blktap/vbd-0-51712.args")"
}

case_frontend_may_connect_while_the_script_runs() {
    echo 'printf 4 >"$t/store/backend/vbd/3/51712/state"' >"$t/on_start"
    run add
    expect_attached
}

case_vbd_of_xen_blkback_is_taken_over() {
    ln -sfn ../../drivers/vbd "$bus/devices/$vbd/driver"
    # The kernel binds it to blktap when it is let go; here, the stub does.
    stub modprobe <<'END'
echo "modprobe $*" >>"$t/log"
ln -sfn ../../drivers/blktap "$t"/sys/bus/xen-backend/devices/vbd-3-51712/driver.new
mkfifo "$t"/sys/bus/xen-backend/drivers/vbd/unbind
(read -r what <"$t"/sys/bus/xen-backend/drivers/vbd/unbind
 echo "unbound $what" >>"$t/log"
 mv -T "$t"/sys/bus/xen-backend/devices/vbd-3-51712/driver{.new,}) &
END
    stub readlink <<'END'
/bin/sleep 0.2
exec /bin/readlink "$@"
END
    run add
    expect_attached
    grep -q "unbound $vbd" "$t/log"
}

case_vbd_that_stays_with_xen_blkback() {
    ln -sfn ../../drivers/vbd "$bus/devices/$vbd/driver"
    run add
    expect_refused "$vbd is bound to xen-blkback; load blktap first"
    expect_not_started
}

case_module_that_does_not_load() {
    ln -sfn ../../drivers/vbd "$bus/devices/$vbd/driver"
    stub modprobe <<<'exit 1'
    run add
    expect_refused "blktap.ko does not load; is it installed for $(uname -r)? (dmesg may say more)"
    expect_not_started
}

case_vbd_without_a_driver() {
    rm "$bus/devices/$vbd/driver"
    run add
    expect_refused "$vbd is not served by blktap.ko (driver: none)"
}

case_wrong_state() {
    store backend/vbd/3/51712/state 5
    run add
    expect_refused "$vbd is not waiting for a disk (state 5)"
    expect_not_started
}

case_vbd_gone_before_add_is_not_brought_back() {
    rm -r "$t/store/backend"
    run add
    same status 1 "$status"
    [[ ! -e $t/store/backend ]] || die "an empty vbd came back in xenstore"
    expect_not_started
}

case_no_systemd() {
    rm -r "$t/run/systemd"
    run add
    expect_refused "tap:zc: disks need systemd, which is not running"
}

case_tapdisk_says_why_it_did_not_start() {
    fail_start
    echo "$image: Structure needs cleaning" >"$t/unit/StatusText"
    run add
    expect_refused "$image: Structure needs cleaning"
}

case_journal_says_why() {
    fail_start
    echo "terminate called" >"$t/journal"
    run add
    expect_refused "$image: terminate called"
}

case_tapdisk_that_is_never_ready() {
    fail_start
    echo timeout >"$t/unit/Result"
    run add
    expect_refused "$image: tapdisk was not ready in time"
}

case_only_systemd_says_why() {
    fail_start
    run add
    expect_refused "$image: Job failed."
}

case_image_in_use_by_another_guest() {
    fail_start
    echo "$image: in use by vbd-2-51728 (guest the other)" >"$t/unit/StatusText"
    run add
    expect_refused "$image: in use by vbd-2-51728 (guest the other)"
}

case_vbd_goes_away_while_tapdisk_starts() {
    echo 'printf 5 >"$t/store/backend/vbd/3/51712/state"' >"$t/on_start"
    run add
    expect_refused "$vbd went away while its tapdisk started (state 5)"
}

case_xenstore_that_cannot_be_written() {
    echo 'touch "$t/store_fails"' >"$t/on_start"
    run add
    same status 1 "$status"
    nothing_left
}

case_interrupt_undoes() {
    # The script waits for a subshell, which waits for timeout, which runs the stub.
    cat >"$t/on_start" <<'END'
parent() { ps -o ppid= -p "$1"; }
kill -TERM $(parent $(parent $PPID))
unit_is activating
exit 1
END
    run add
    expect_refused "interrupted"
}

case_old_tapdisk_that_does_not_die() {
    unit_is active
    touch "$t/deaf" "$t/undead"
    run add
    same status 1 "$status"
    same hotplug-error "an earlier tapdisk of $vbd does not end" "$(stored hotplug-error)"
    expect_not_started
}

case_old_tapdisk_is_replaced() {
    unit_is active
    run add
    expect_attached
    grep -q "^kill --kill-whom=main --signal=TERM $unit" "$t/systemctl.log"
}

case_tapdisk_that_does_not_attach() {
    rm -r "$t/sys/class"
    run add
    expect_refused "tapdisk has started, but does not serve $vbd"
}

case_remove_stops() {
    run add
    run remove
    expect_success
    nothing_left
}

# Its unit refuses that, or a shutdown would stop it.
case_remove_asks_for_no_stop_job() {
    run add
    run remove
    ! grep '^stop' "$t/systemctl.log"
}

# Each takes half a second on a slow machine, where the disks of a guest end together.
case_remove_runs_no_program_where_tapdisk_leaves_by_itself() {
    local program
    run add
    : >"$t/systemctl.log"
    for program in xenstore-read xenstore-ls logger sleep readlink dirname rm; do
        stub "$program" <<<"echo $program >>\"\$t/called\""
    done
    echo closed >"$t/sys/class/blktap/$vbd/state"
    (/bin/sleep 2; /bin/rm "$t/run/blktap/$vbd.args"; t=$t unit_is inactive) &
    run remove
    expect_success
    nothing_left
    same programs "" "$(cat "$t/systemctl.log" "$t/called" 2>/dev/null)"
}

case_remove_waits_only_for_a_tapdisk_that_will_leave() {
    local begun=$SECONDS
    run add
    run remove
    expect_success
    ((SECONDS - begun < 10)) || die "it waited, and the vbd was not closed"
}

with_times() { # SECONDS...: of the script's patience, and for draining
    sed "s/patience_s=[0-9]* drain_timeout_s=[0-9]*/patience_s=$1 drain_timeout_s=$2/" \
        "$glue/block-tapzc" >"$t/script"
    chmod +x "$t/script"
    cp "$glue/in-use.sh" "$t"
    script=$t/script
}

case_remove_stops_a_tapdisk_that_should_have_left() {
    with_times 1 20
    run add
    echo closed >"$t/sys/class/blktap/$vbd/state"
    run remove
    expect_success
    nothing_left
    grep -q "^kill --kill-whom=main --signal=TERM $unit" "$t/systemctl.log"
}

case_remove_where_cgroups_say_nothing() {
    rm -r "$t/sys/fs"
    run add
    run remove
    expect_success
    nothing_left
    grep -q '^show --property=ActiveState' "$t/systemctl.log"
}

case_remove_of_nothing() {
    rm -r "$t/store" "$t/unit" "$t/run"
    run remove
    expect_success
}

case_remove_forgets_a_failed_unit() {
    mkdir -p "$t/run/blktap"
    echo --vbd >"$t/run/blktap/$vbd.args"
    unit_is failed
    run remove
    expect_success
    nothing_left
    same calls "reset-failed $unit" "$(cat "$t/systemctl.log")"
}

case_remove_tells_what_does_not_leave_and_kills_what_does_not_drain() {
    with_times 1 1
    run add
    touch "$t/deaf"
    run remove
    expect_success
    nothing_left
    same signals "kill --kill-whom=main --signal=TERM $unit
kill --signal=KILL $unit" "$(grep ^kill "$t/systemctl.log")"
}

# Its vbd may get another.
case_tapdisk_that_was_killed() {
    run add
    unit_is failed
    path=none run left "$vbd"
    expect_success
    [[ -e $t/run/blktap/$vbd.args ]] || die "the next one has no arguments"
    run remove
    expect_success
    nothing_left
}

case_tapdisk_that_was_killed_and_nobody_comes() {
    run add
    unit_is inactive
    rm -r "$t/store/backend" "$t/sys/class/blktap/$vbd"
    path=none run left "$vbd"
    expect_success
    nothing_left
}

case_wrong_calls() {
    run
    same status 2 "$status"
    path=backend/vif/3/0 run add
    same status 2 "$status"
    path=backend/vbd/3 run add
    same status 2 "$status"
}

run_cases
