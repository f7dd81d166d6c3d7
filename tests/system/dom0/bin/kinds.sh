# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# For the cases that try kinds of guests. Use after lib.sh.

# Without it blkfront asks for less than it is offered. With persistent grants, too, it would set
# pages aside for as many and as large requests as there may be: 512 MiB for each queue.
all_of_protocol="xen_blkfront.max_ring_page_order=4 xen_blkfront.max_indirect_segments=256"
all_of_protocol+=" xen_blkfront.feature_persistent=N"

# Gives the guest one more disk, offers so much, and has it verify; the image holds what it reads.
try_protocol() { # NAME RING-ORDER QUEUES SEGMENTS
    local vbd frontend sum offer=/sys/module/blktap/parameters
    frontend=/local/domain/$(xl domid "$1")/device/vbd/51952
    vbd=/sys/class/blktap/vbd-$(xl domid "$1")-51952
    echo "$2" > $offer/max_ring_page_order
    echo "$3" > $offer/max_queues
    echo "$4" > $offer/max_indirect_segments
    xl block-attach "$1" tap:zc:/srv/matrix.img,xvdp,w
    guest_run "$1" 60 'for _ in $(seq 100); do [ ! -b /dev/xvdp ] || break; sleep 0.1; done
        exec fio --name=verify --filename=/dev/xvdp --ioengine=libaio --direct=1 --rw=randrw \
            --bsrange=512-256k --blockalign=512 --iodepth=32 --size=4m --verify=crc32c \
            --verify_fatal=1 --numjobs=2 --offset_increment=4m --eta=never --minimal \
            --output=/dev/null'
    sum=$(guest_run "$1" 60 'sha256sum < /dev/xvdp')
    [ "$(sha256sum < /srv/matrix.img)" = "$sum" ]
    [ "$(cat "$vbd/queues")" = "$(($3 < vcpus ? $3 : vcpus))" ]
    [ "$(xenstore-read "$frontend/ring-page-order" || echo 0)" = "$2" ]
    if [ "$4" = 0 ]; then all_zero "$vbd/statistics/requests_indirect"
    else [ "$(cat "$vbd/statistics/requests_indirect")" -gt 0 ]; fi
    all_zero "$vbd"/statistics/{bytes_copied,responses_error}
    say "    ring order $2, $3 queues, $4 segments"
    xl block-detach "$1" xvdp
    wait_for 10 test ! -e "$vbd"
}

restore_parameters() {
    while IFS=: read -r file value; do echo "$value" > "$file"; done < /run/parameters
}

# All of them with each other when time does not matter, else one that others do not try.
try_protocols() { # NAME
    local order queues segments
    grep -H '' /sys/module/blktap/parameters/* > /run/parameters
    trap restore_parameters EXIT
    fallocate -l 8M /srv/matrix.img
    if [ "${THOROUGH:-}" ]; then
        for order in 0 2 4; do
            for queues in 1 4; do
                for segments in 0 256; do try_protocol "$1" $order $queues $segments; done
            done
        done
    else
        try_protocol "$1" 2 4 32
    fi
    restore_parameters
    rm /srv/matrix.img
}

# A CD-ROM says what it is, can be read, and nothing else. (Of Linux, only PV guests take one.)
try_cdrom() { # NAME
    local sum
    sum=$(guest_run "$1" 60 'sha256sum < /dev/xvdc
        if dd if=/dev/zero of=/dev/xvdc count=1 conv=fsync 2> /dev/null; then echo no; fi')
    [ "$(sha256sum < /srv/cd.iso)" = "$sum" ]
    (($(xenstore-read "backend/vbd/$(xl domid "$1")/51744/info") & 1)) # VDISK_CDROM
}

# A guest with each of the kernels boots from a tap:zc: disk and verifies what fio wrote to another
# one; what it writes is in the image file, and nothing was copied in dom0.
guests_of_type() { # pv|pvh
    local kernel release name sum vcpus=4 cdrom=() bytes=$((4 << 20))
    # With several virtual CPUs a PVH guest does not get up in the emulation.
    [ "$1" != pvh ] || vcpus=1
    [ "$1" != pv ] ||
        cdrom=("vdev=xvdc,access=r,devtype=cdrom,script=block-tapzc,target=/srv/cd.iso")
    head -c 1M /dev/urandom > /srv/cd.iso
    cp --sparse=always /srv/root.img /srv/kinds.img
    fallocate -l 16M /srv/data.img
    for kernel in /srv/vmlinux-*; do
        release=${kernel#/srv/vmlinux-}
        name=$1-$release
        GUEST_KERNEL=$release GUEST_TYPE=$1 GUEST_VCPUS=$vcpus GUEST_EXTRA=$all_of_protocol \
            guest_config "$name" tap:zc:/srv/kinds.img,xvda,w tap:zc:/srv/data.img,xvdb,w \
            "${cdrom[@]}" > "/run/$name.cfg"
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
        [ "$1" != pv ] || try_cdrom "$name"
        try_protocols "$name"
        guest_stop "$name"
        say "  $1 guest, $(tail -1 /run/kind | tr -d '\r')"
    done
    e2fsck -fn /srv/kinds.img
    rm /srv/kinds.img /srv/data.img /srv/cd.iso
}
