# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Which image it is, and who else has it: part of block-tapzc, whose variables and functions it
# uses.

# shellcheck disable=SC2154  # they are set there

# Where that is the locale, a dot stands for a whole character. No process is needed.
is_utf8() {
    local LC_ALL=C.UTF-8
    [[ $1 =~ ^.*$ ]]
}

# What tapdisk must find by the path each time that it starts: see tapdisk/image/identity.hpp.
identity() {
    local number device text
    if [[ -f $image ]]; then
        stat -L -c 'file:%Hd.%Ld:%i:%.9W' -- "$image"
        return
    fi
    number=$(stat -L -c %Hr:%Lr -- "$image")
    device=/sys/dev/block/$number
    { read -r text <"$device/dm/uuid"; } 2>/dev/null
    if [[ ${text:-} ]]; then
        echo "dm:$text"
        return
    fi
    # A partition has the number of its disk.
    { read -r text <"$device/diskseq" || read -r text <"$device/../diskseq"; } 2>/dev/null
    echo "device:$number:${text:-}"
}

# A loop device of this host, be it a mount or the disk of a guest by Xen's own script, takes none
# of tapdisk's locks.
refuse_looped() {
    local dir file read_only
    [[ -f $image ]] || return 0
    for dir in "$root"/sys/block/loop*; do
        { IFS= read -r file <"$dir/loop/backing_file"; } 2>/dev/null || continue
        [[ $file -ef $image ]] || continue
        { read -r read_only <"$dir/ro"; } 2>/dev/null
        [[ $mode == r && $read_only == 1 ]] ||
            fail "$params: in use by this host as /dev/${dir##*/} (losetup --list)"
    done
}

# xen-blkback claims no device, and QEMU locks no image: what they serve to others stands in
# xenstore only.
refuse_served() {
    local kind its_domid devid backends=${XENBUS_PATH%/vbd*}
    while read -r kind its_domid devid; do
        # Those of tapdisk have its locks.
        [[ ! -e $root/sys/class/blktap/vbd-$its_domid-$devid ]] || continue
        ((its_domid != domid)) && [[ $(owner "$its_domid") != $(owner "$domid") ]] || continue
        [[ $mode == r && $(store_read "$backends/$kind/$its_domid/$devid/mode") == r ]] ||
            fail "$params: in use by $kind-$its_domid-$devid ($(guest_name "$its_domid"))"
    done < <(served_by_device "$backends"; served_by_path "$backends")
}

served_by_device() { # BACKENDS: prints "vbd DOMID DEVID" of each that has the block device
    local line
    [[ $image_number ]] || return
    while IFS= read -r line; do
        [[ $line =~ /vbd/([0-9]+)/([0-9]+)/physical-device\ =\ \"$image_number\"$ ]] &&
            echo "vbd ${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
    done < <(xenstore-ls -f "$1/vbd" 2>/dev/null)
}

served_by_path() { # BACKENDS: prints "qdisk DOMID DEVID" of each that has the image, as FORMAT:PATH
    local line its_params
    while IFS= read -r line; do
        [[ $line =~ /qdisk/([0-9]+)/([0-9]+)/params\ =\  ]] || continue
        its_params=$(store_read "$1/qdisk/${BASH_REMATCH[1]}/${BASH_REMATCH[2]}/params")
        [[ ${its_params#*:} -ef $image ]] && echo "qdisk ${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
    done < <(xenstore-ls -f "$1/qdisk" 2>/dev/null)
}

guest_name() { # DOMID
    echo "guest $(store_read "/local/domain/$1/name" || echo "$1")"
}

# Who holds the lock on the image. All vbds of one guest are one owner, its stub domain's and those
# of its next incarnation (reboot, migration to this host) included. dom0 is an owner of its own:
# when pygrub looks into a disk that a running guest writes, that is a conflict.
owner() { # DOMID
    local target id
    if (($1 == 0)); then
        echo "$dom0_id"
        return
    fi
    target=$(store_read "/local/domain/$1/target") || target=$1
    # A driver domain may not read it; domains of other hosts have the same numbers.
    id=$(store_read "/local/domain/$target/vm") ||
        id=domain-$(cat "$root/etc/machine-id" 2>/dev/null)-$target
    id=${id##*/}
    echo "${id%-1}"
}

# tapdisk may not look into other processes, by which alone it is known who has a lock. Prints what
# it said, with the name of the program.
name_program() { # MESSAGE
    local fdinfo pid name
    while IFS= read -r fdinfo; do
        [[ ${fdinfo/fdinfo/fd} -ef $image ]] || continue
        pid=${fdinfo#"$root"/proc/}
        pid=${pid%%/*}
        { read -r name <"$root/proc/$pid/comm"; } 2>/dev/null || continue
        [[ $name != tapdisk ]] || continue
        echo "${1/another program/process $pid ($name)}"
        return
    done < <(grep -ls '^lock:.*OFDLCK' "$root"/proc/[0-9]*/fdinfo/* 2>/dev/null)
    echo "$1"
}
