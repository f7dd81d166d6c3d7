#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What the hotplug script makes of an image, in the made-up world: which it refuses, and why.

# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"
. "$(dirname "$0")/tapzc_world.sh"

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

case_name_that_is_not_utf8() {
    local odd
    for odd in "$t/img/"$'m\xfcller.img' "$t/img/"$'a\xc3'; do
        echo data >"$odd"
        refuse_image "$odd" "$odd: the name is not UTF-8, which libxl needs; rename it, or attach \
a link to it"
    done
}

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

another_guest() { # KIND KEY VALUE MODE: has the stock disk KIND-7-832
    store /local/domain/7/vm /vm/77777777-0000-0000-0000-000000000000
    store /local/domain/7/name seven
    store "backend/$1/7/832/$2" "$3"
    store "backend/$1/7/832/mode" "$4"
}

case_device_of_a_disk_of_xen_blkback() {
    device_as_image
    another_guest vbd physical-device 7:fa w
    refuse_image "$image" "$image: in use by vbd-7-832 (guest seven)"
}

case_device_of_a_disk_of_tapdisk() { # whose locks are the last word: it may be shared
    device_as_image
    another_guest vbd physical-device 7:fa w
    mkdir -p "$t"/sys/class/blktap/vbd-7-832
    run add
    rm -r "$t"/sys/class/blktap/vbd-7-832
    expect_attached
}

case_device_that_xen_blkback_only_reads() {
    device_as_image
    another_guest vbd physical-device 7:fa r
    refuse_image "$image" "$image: in use by vbd-7-832 (guest seven)"
    store backend/vbd/3/51712/mode r
    store backend/vbd/3/51712/hotplug-status ""
    run add
    expect_attached
}

case_other_device_of_a_disk_of_xen_blkback() {
    device_as_image
    another_guest vbd physical-device 7:fab w
    run add
    expect_attached
    same physical-device 7:fa "$(stored physical-device)"
}

case_device_of_the_same_guest_before_its_reboot() {
    device_as_image
    another_guest vbd physical-device 7:fa w
    store /local/domain/7/vm /vm/1f0e2d3c-0000-0000-0000-00000000abcd-1
    run add
    expect_attached
}

case_image_of_a_disk_of_qemu() {
    ln -s disk.img "$t/img/link"
    another_guest qdisk params "aio:$t/img/link" w
    refuse_image "$image" "$image: in use by qdisk-7-832 (guest seven)"
}

case_other_image_of_a_disk_of_qemu() {
    another_guest qdisk params "aio:$t/img/other.img" w
    run add
    expect_attached
}

run_cases
