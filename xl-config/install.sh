#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Installs the xl glue below DESTDIR, or takes the whole product away again:
#   [DESTDIR=/path] [BUILD_DIR=build/user] xl-config/install.sh [--check MODULE | --uninstall]
#
# DESTDIR may be nothing (this machine), the root of an installed system (stock xl is diverted in
# its dpkg database), or an empty staging directory (files only). Both may be repeated. --check
# fails if disks are in use that a tapdisk of this version could not serve beside the loaded module.

set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
readonly here source=${here%/*}
readonly build=${BUILD_DIR:-$source/build/user}
root=${DESTDIR:-}
readonly root=${root%/}
triplet=$(gcc -print-multiarch)
readonly libdir=/usr/lib/$triplet/blktap
readonly divert_to=/usr/sbin/xl.xen-utils-common

# mode, source, target
files() {
    cat <<END
755 $here/block-tapzc                          /usr/libexec/blktap/block-tapzc
644 $here/in-use.sh                            /usr/libexec/blktap/in-use.sh
755 $here/block-tapzc.stub                     /etc/xen/scripts/block-tapzc
755 $here/block-tapzc.stub                     /etc/xen/scripts/block-tapgnt
644 $build/xl-config/libxlu-tapzc.so           $libdir/libxlu-tapzc.so
644 $here/systemd/blktap-tapdisk@.service      /usr/lib/systemd/system/blktap-tapdisk@.service
644 $here/systemd/blktap.service               /usr/lib/systemd/system/blktap.service
644 $here/systemd/blktap-devd.service          /usr/lib/systemd/system/blktap-devd.service
644 $here/systemd/blktap.slice                 /usr/lib/systemd/system/blktap.slice
644 $here/etc/tmpfiles.conf                    /usr/lib/tmpfiles.d/blktap.conf
644 $here/etc/modprobe.conf                    /usr/lib/modprobe.d/blktap.conf
644 $here/etc/udev.rules                       /usr/lib/udev/rules.d/60-blktap.rules
644 $here/etc/needrestart.conf                 /etc/needrestart/conf.d/blktap.conf
644 $here/tap-ctl.completion                   /usr/share/bash-completion/completions/tap-ctl
644 $here/examples/guest.cfg                   /usr/share/doc/blktap/examples/guest.cfg
644 $here/examples/guest-script.cfg            /usr/share/doc/blktap/examples/guest-script.cfg
644 $here/examples/guest-readonly.cfg          /usr/share/doc/blktap/examples/guest-readonly.cfg
644 $source/docs/man/block-tapzc.8             /usr/share/man/man8/block-tapzc.8
644 $source/docs/man/blktap.4                  /usr/share/man/man4/blktap.4
644 $source/docs/man/xl-disk-tapzc.5           /usr/share/man/man5/xl-disk-tapzc.5
END
}

# link, what it points to
links() {
    cat <<END
/usr/libexec/blktap/xl                                        $divert_to
/usr/libexec/blktap/block-tapgnt                              block-tapzc
/etc/systemd/system/multi-user.target.wants/blktap.service    /usr/lib/systemd/system/blktap.service
END
}

# What the Makefile and CMake install.
other_files() {
    printf '%s\n' /usr/sbin/tapdisk /usr/sbin/tap-ctl /usr/share/man/man8/{tapdisk,tap-ctl}.8
}

# Directories that are nobody else's; removed when empty.
own_directories() {
    cat <<END
/usr/libexec/blktap
$libdir
/usr/share/doc/blktap/examples
/usr/share/doc/blktap
/etc/needrestart/conf.d
/etc/needrestart
END
}

on_this_machine() {
    [[ -z $root && -d /run/systemd/system ]]
}

has_dpkg() {
    [[ -f $root/var/lib/dpkg/status ]]
}

is_ours() {
    [[ -f $1 ]] && grep -q libxlu-tapzc "$1"
}

divert() {
    dpkg-divert --root="${root:-/}" --local --rename --quiet "$@"
}

# From here on dpkg puts every stock xl, today's and the next upgrade's, beside our wrapper.
put_xl_aside() {
    if has_dpkg; then
        divert --divert "$divert_to" --add /usr/sbin/xl
    elif [[ -e $root/usr/sbin/xl ]] && ! is_ours "$root/usr/sbin/xl"; then
        mv "$root/usr/sbin/xl" "$root$divert_to"
    fi
}

put_xl_back() {
    if is_ours "$root/usr/sbin/xl"; then
        rm "$root/usr/sbin/xl"
    fi
    if has_dpkg; then
        divert --divert "$divert_to" --remove /usr/sbin/xl
    elif [[ -e $root$divert_to || -L $root$divert_to ]]; then
        mv "$root$divert_to" "$root/usr/sbin/xl"
    fi
}

# The modules of each kernel that has ours, or had; where there are none others but ours, as in a
# staging directory, an index would say so.
run_depmod() {
    local kernel
    for kernel in "$root"/lib/modules/*; do
        [[ ! -e $kernel/modules.order ]] || depmod -b "$root/" "${kernel##*/}"
    done
}

module_is_used() {
    (($(cat /sys/module/blktap/refcnt 2>/dev/null || echo 0) > 0))
}

# The loaded module's version is empty for one that did not say.
do_check() { # MODULE
    local loaded
    on_this_machine && module_is_used || return 0
    loaded=$(cat /sys/module/blktap/version 2>/dev/null || true)
    [[ $loaded != "$(modinfo -F version "$1")" ]] || return 0
    echo "$0: guests use disks by the module blktap that is loaded, beside which the new tapdisk" \
        "cannot work: detach the disks (tap-ctl list) or stop these guests first" >&2
    return 1
}

# A module that nobody uses makes room for the one that was installed.
renew_module() {
    [[ -d /sys/module/blktap ]] || return 0
    if module_is_used; then
        echo "$0: disks are in use; the module that is loaded stays until it is loaded again" >&2
    else
        modprobe -r blktap && modprobe blktap
    fi
}

do_install() {
    local mode from to link
    [[ -f $build/xl-config/libxlu-tapzc.so ]] || { echo "$0: build first" >&2; exit 1; }

    while read -r mode from to; do
        install -D -m "$mode" "$from" "$root$to"
    done < <(files)
    while read -r link to; do
        mkdir -p "$root${link%/*}"
        ln -sfn "$to" "$root$link"
    done < <(links)
    # The administrator's own settings stay.
    if [[ ! -e $root/etc/default/blktap ]]; then
        install -D -m 644 "$here/etc/default" "$root/etc/default/blktap"
    fi

    put_xl_aside
    sed "s|@LIBDIR@|$libdir|" "$here/xl.in" | install -D -m 755 /dev/stdin "$root/usr/sbin/xl"

    run_depmod
    if on_this_machine; then
        systemctl daemon-reload
        systemd-tmpfiles --create blktap.conf
        udevadm control --reload || true
        renew_module
    fi
}

do_uninstall() {
    local from to link directory file
    if on_this_machine &&
        { module_is_used || systemctl --quiet is-active 'blktap-tapdisk@*'; }; then
        echo "$0: disks are still in use (tap-ctl list)" >&2
        exit 1
    fi
    if on_this_machine; then
        systemctl disable --now blktap-devd.service 2>/dev/null || true
        systemctl stop blktap.service 2>/dev/null || true
        [[ ! -d /sys/module/blktap ]] || modprobe -r blktap
    fi

    rm -f "$root/etc/systemd/system/multi-user.target.wants/blktap-devd.service"
    put_xl_back
    while read -r file; do
        rm -f "$root$file"
    done < <(other_files)
    rm -f "$root"/lib/modules/*/updates/blktap.ko
    run_depmod
    while read -r _ from to; do
        rm -f "$root$to"
    done < <(files)
    while read -r link _; do
        rm -f "$root$link"
    done < <(links)
    if cmp -s "$here/etc/default" "$root/etc/default/blktap"; then
        rm "$root/etc/default/blktap"
    fi
    while read -r directory; do
        rmdir --ignore-fail-on-non-empty "$root$directory" 2>/dev/null || true
    done < <(own_directories)

    if on_this_machine; then
        systemctl daemon-reload
        rm -rf /run/blktap
    fi
}

case ${1:-} in
'') do_install ;;
--check) do_check "$2" ;;
--uninstall) do_uninstall ;;
*)
    sed -n '3,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
