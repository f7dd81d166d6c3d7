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
    same args "--vbd $vbd --image $image --vm 1f0e2d3c-0000-0000-0000-00000000abcd" "$(args)"
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
    same args "--vbd $vbd --image $image --vm 1f0e2d3c-0000-0000-0000-00000000abcd --read-only \
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

case_image_path_is_canonical_and_may_hold_anything() {
    local odd=$t/img/$'a b,c:d\\x41 \xc3\xbc "'\''$(true).img'
    echo data >"$odd"
    ln -s "$odd" "$t/img/link"
    store backend/vbd/3/51712/params "$t/img/link"
    run add
    expect_attached
    same physical-device-path "$odd" "$(stored physical-device-path)"
    same "image argument" "$odd" "$(sed -n 4p "$t/run/blktap/$vbd.args")"
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
    same "vm argument" 22222222-0000-0000-0000-000000000000 "$(sed -n 6p "$t/run/blktap/$vbd.args")"
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
        "$(sed -n 6p "$t/run/blktap/vbd-0-51712.args")"
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

refuse_image() {  # params message
    store backend/vbd/3/51712/params "$1"
    run add
    expect_refused "$2"
    expect_not_started
}

case_missing_image() { refuse_image "$t/img/none" "$t/img/none: No such file or directory"; }
case_directory() { refuse_image "$t/img" "$t/img: Is a directory"; }
case_other_file() { refuse_image /dev/null "/dev/null: neither a regular file nor a block device"; }
case_file_as_directory() { refuse_image "$image/x" "$image/x: Not a directory"; }
case_relative_path() { refuse_image disk.img "disk.img: not an absolute path"; }
case_newline() { refuse_image "$t/a"$'\n'b "$t/a?b: newline in the path"; }
case_newline_at_the_end() { refuse_image "$image"$'\n' "$image?: newline in the path"; }
case_empty_path() { refuse_image "" ": not an absolute path"; }

case_no_params() {
    rm "$t/store/backend/vbd/3/51712/params"
    run add
    expect_refused "no image path given"
}

case_newline_behind_a_link() {
    echo >"$t/img/a"$'\n'b
    ln -s "$t/img/a"$'\n'b "$t/img/link"
    refuse_image "$t/img/link" "$t/img/link: newline in the path it leads to"
}

case_loop_of_links() {
    ln -s b "$t/img/a"
    ln -s a "$t/img/b"
    refuse_image "$t/img/a" "$t/img/a: Too many levels of symbolic links"
}

case_image_that_nobody_may_write() {
    chmod 444 "$image"
    run add
    expect_refused "$image: Permission denied (disk is 'w', image is read-only)"
}

case_image_that_nobody_may_read() {
    chmod 000 "$image"
    run add
    expect_refused "$image: Permission denied"
}

loop_of() {  # file read-only(0|1)
    mkdir -p "$t/sys/block/loop7/loop" "$t/sys/block/loop8"
    echo "$1" >"$t/sys/block/loop7/loop/backing_file"
    echo "$2" >"$t/sys/block/loop7/ro"
}

case_image_that_a_loop_device_has() {
    loop_of "$image" 1
    refuse_image "$image" "$image: in use by this host as /dev/loop7 (losetup --list)"
}

case_image_that_a_loop_device_may_write() {
    store backend/vbd/3/51712/mode r
    loop_of "$image" 0
    refuse_image "$image" "$image: in use by this host as /dev/loop7 (losetup --list)"
}

case_image_that_a_loop_device_reads_as_we_do() {
    store backend/vbd/3/51712/mode r
    loop_of "$image" 1
    run add
    expect_attached
}

case_loop_device_of_another_image() {
    loop_of "$t/img/other.img" 0
    run add
    expect_attached
}

case_no_systemd() {
    rm -r "$t/run/systemd"
    run add
    expect_refused "tap:zc: disks need systemd, which is not running"
}

fail_start() {
    echo 'echo failed >"$t/unit/ActiveState"; echo "Job failed." >&2; exit 1' >"$t/on_start"
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

case_image_in_use_names_the_user() {
    mkdir -p "$t/run/blktap"
    ln "$image" "$t/img/other-name"
    printf '%s\n' --vbd vbd-1-51728 --image "$t/img" >"$t/run/blktap/vbd-1-51728.args"
    # The guest's own stub domain has it too, and is not in the way.
    printf '%s\n' --vbd vbd-1-51712 --image "$image" --vm 1f0e2d3c-0000-0000-0000-00000000abcd \
        >"$t/run/blktap/vbd-1-51712.args"
    printf '%s\n' --vbd vbd-2-51728 --image "$t/img/other-name" >"$t/run/blktap/vbd-2-51728.args"
    store /local/domain/2/name "the other"
    fail_start
    echo "$image: in use" >"$t/unit/StatusText"
    run add
    rm "$t"/run/blktap/vbd-[12]-*
    expect_refused "$image: in use by vbd-2-51728 (guest the other)"
}

case_image_in_use_by_a_stranger() {
    fail_start
    echo "$image: in use by another program" >"$t/unit/StatusText"
    run add
    expect_refused "$image: in use by another program"
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
echo activating >"$t/unit/ActiveState"
exit 1
END
    run add
    expect_refused "interrupted"
}

case_old_tapdisk_that_does_not_die() {
    echo active >"$t/unit/ActiveState"
    touch "$t/deaf" "$t/undead"
    run add
    same hotplug-error "an earlier tapdisk of $vbd does not end" "$(stored hotplug-error)"
    same starts 1 "$(grep -c '^start' "$t/systemctl.log")"
    [[ ! -e $t/run/blktap/$vbd.args ]]
}

case_old_tapdisk_is_replaced() {
    echo active >"$t/unit/ActiveState"
    run add
    expect_attached
    grep -q "^stop --no-block $unit" "$t/systemctl.log"
    same starts 2 "$(grep -c '^start' "$t/systemctl.log")"
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

case_remove_never_waits_for_a_stop_job() {
    run add
    run remove
    ! grep '^stop' "$t/systemctl.log" | grep -v -- --no-block
}

case_remove_of_nothing() {
    rm -r "$t/store" "$t/unit" "$t/run"
    run remove
    expect_success
}

case_remove_forgets_a_failed_unit() {
    mkdir -p "$t/run/blktap"
    echo --vbd >"$t/run/blktap/$vbd.args"
    echo failed >"$t/unit/ActiveState"
    run remove
    expect_success
    nothing_left
}

case_remove_kills_what_does_not_drain() {
    run add
    touch "$t/deaf"
    install -m 755 <(sed 's/drain_timeout_s=25/drain_timeout_s=1/' "$glue/block-tapzc") "$t/script"
    script=$t/script run remove
    expect_success
    nothing_left
    grep -q "^kill --signal=KILL $unit" "$t/systemctl.log"
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
