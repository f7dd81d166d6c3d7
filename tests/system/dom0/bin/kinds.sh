# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# For the cases that try kinds of guests. Use after lib.sh.

all_zero() { # FILE...
    [ "$(sort -u "$@")" = 0 ]
}

# A guest with each of the kernels boots from a tap:zc: disk and verifies what fio wrote to another
# one; what it writes is in the image file, and nothing was copied in dom0.
guests_of_type() { # pv|pvh
    local kernel release name sum bytes=$((4 << 20))
    cp --sparse=always /srv/root.img /srv/kinds.img
    fallocate -l 16M /srv/data.img
    for kernel in /srv/vmlinux-*; do
        release=${kernel#/srv/vmlinux-}
        name=$1-$release
        GUEST_KERNEL=$release GUEST_TYPE=$1 guest_config "$name" tap:zc:/srv/kinds.img,xvda,w \
            tap:zc:/srv/data.img,xvdb,w > "/run/$name.cfg"
        guest_start "$name" "/run/$name.cfg"

        # It is what it was asked to be, and on the disk that it was given.
        guest_run "$name" 60 'uname -r | cut -d. -f1,2; cat /sys/hypervisor/guest_type
            findmnt -n -o SOURCE /; uname -r' > /run/kind
        tr -d '\r' < /run/kind | head -3 | diff - <(printf '%s\n' "$release" "${1^^}" /dev/xvda)

        guest_run "$name" 120 'fio --name=verify --filename=/dev/xvdb --ioengine=libaio --direct=1 \
            --rw=randrw --bsrange=512-256k --blockalign=512 --iodepth=32 --size=8m \
            --verify=crc32c --verify_fatal=1 --eta=never --minimal --output=/dev/null'
        sum=$(guest_run "$name" 60 "head -c $bytes /dev/urandom > /tmp/data &&
            dd if=/tmp/data of=/dev/xvdb bs=64k oflag=direct conv=fsync status=none &&
            sha256sum < /tmp/data")
        [ "$(head -c $bytes /srv/data.img | sha256sum)" = "$sum" ]
        all_zero "/sys/class/blktap/vbd-$(xl domid "$name")"-*/statistics/bytes_copied
        all_zero "/sys/class/blktap/vbd-$(xl domid "$name")"-*/statistics/responses_error
        guest_stop "$name"
        say "  $1 guest, $(tail -1 /run/kind | tr -d '\r')"
    done
    e2fsck -fn /srv/kinds.img
    rm /srv/kinds.img /srv/data.img
}
