# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# For cases that need no guest: tap:zc: disks attached to dom0 itself, whose own blkfront is as good
# a frontend as any guest's. Use after lib.sh.

modprobe xen-blkfront

disk_attach() { # VDEV IMAGE [w|r]: attach, and wait for the block device
    xl block-attach 0 "tap:zc:$2,$1,${3:-w}" && wait_for 10 test -b "/dev/$1" && disk_ready "$1"
}

disk_ready() { # VDEV: blkfront is connected and udev has looked at it
    wait_for 10 grep -qx connected "/sys/class/blktap/$(disk_vbd "$1")/state" &&
        udevadm settle --timeout=20
}

disk_detach() { # VDEV
    udevadm settle --timeout=20
    xl block-detach 0 "$1" && wait_for 10 test ! -e "/dev/$1"
}

disk_vbd() { # VDEV: its name, vbd-0-N
    local link
    link=$(readlink "/sys/block/$1/device") && echo "vbd-0-${link##*/vbd-}"
}

count_of() { # VDEV COUNTER
    cat "/sys/class/blktap/$(disk_vbd "$1")/statistics/$2"
}

process_gone() { ! kill -0 "$1" 2> /dev/null; } # PID

case_begun=@$EPOCHREALTIME

tapdisk_log() { # VBD: what its tapdisks have written to the journal, in this case
    journalctl --sync
    journalctl --quiet --output=cat --since="$case_begun" --unit="blktap-tapdisk@$1.service"
}

random_image() { # FILE MIB
    head -c "$2M" /dev/urandom > "$1" && sync "$1"
}

# Writes FROM's first MIB to the disk, reads the disk back, compares with FROM and with the image.
disk_holds_data() { # VDEV IMAGE FROM MIB
    dd if="$3" of="/dev/$1" bs=256k count=$(($4 * 4)) oflag=direct conv=fsync status=none &&
        dd if="/dev/$1" bs=64k count=$(($4 * 16)) iflag=direct status=none |
        cmp - <(head -c "$4M" "$3") && head -c "$4M" "$2" | cmp - <(head -c "$4M" "$3")
}

# Random mixed reads and writes, and what was written is read and verified. No --runtime: when that
# is over, fio does not verify and says nothing of it.
verify_with_fio() { # FILE [OPTION...]
    local file=$1
    shift
    timeout 120 fio --name=verify --filename="$file" --ioengine=libaio --direct=1 \
        --rw=randrw --bsrange=512-256k --blockalign=512 --iodepth=32 --verify=crc32c \
        --verify_fatal=1 --size=12m --output-format=terse "$@" > /dev/null
}

# A memory disk of MIB, /dev/slow, each of whose requests takes MS: some are in flight for certain
# when something happens to those who wait for them.
slow_device() { # MIB MS
    local config=/sys/kernel/config/nullb/slow
    modprobe null_blk nr_devices=0
    mkdir -p $config
    echo "$1" > $config/size
    echo 1 > $config/memory_backed
    echo 2 > $config/irqmode
    echo "${2}000000" > $config/completion_nsec
    echo 1 > $config/power
    wait_for 5 test -b /dev/slow
}

slow_device_gone() {
    rmdir /sys/kernel/config/nullb/slow && modprobe -r null_blk
}
