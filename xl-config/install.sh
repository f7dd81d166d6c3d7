#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What an installation does beside putting files, for which there is `cmake --install`: our xl goes
# in front of the stock one, the service is enabled, what runs takes notice. Or takes the whole
# product away again:
#   [DESTDIR=/path] xl-config/install.sh [--check MODULE | --uninstall]
#
# DESTDIR may be nothing (this machine), the root of an installed system (stock xl is diverted in
# its dpkg database), or an empty staging directory. Both may be repeated. --check fails if disks
# are in use that a tapdisk of this version could not serve beside the loaded module.

set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
readonly here
root=${DESTDIR:-}
readonly root=${root%/}
readonly divert_to=/usr/sbin/xl.xen-utils-common wrapper=../libexec/blktap/xl-tapzc
readonly xl=$root/usr/sbin/xl stock_xl=$root$divert_to
readonly wants=$root/etc/systemd/system/multi-user.target.wants
readonly settings=/etc/default/blktap
readonly manifest=$root/usr/share/blktap/files # written by cmake --install

# Directories that are nobody else's; removed when empty.
own_directories() {
    printf '%s\n' "$root"/usr/lib/*/blktap "$root"/usr/{libexec,share}/blktap \
        "$root"/usr/share/doc/blktap{/examples,} "$root"/etc/needrestart{/conf.d,}
}

on_this_machine() {
    [[ -z $root && -d /run/systemd/system ]]
}

has_dpkg() {
    [[ -f $root/var/lib/dpkg/status ]]
}

is_there() {
    [[ -e $1 || -L $1 ]]
}

# A file of that content is what earlier releases put there.
is_ours() {
    [[ $(readlink "$1") == "$wrapper" ]] || { [[ -f $1 ]] && grep -q libxlu-tapzc "$1"; }
}

divert() {
    dpkg-divert --root="${root:-/}" --local --no-rename --quiet --divert "$divert_to" "$@" \
        /usr/sbin/xl
}

# Into place by a rename: at every moment, and whatever fails, there is an xl.
put() { # FILE TARGET: a copy; a link stays one
    cp -aT "$1" "$2.new"
    mv -T "$2.new" "$2"
}

# From here on dpkg puts every stock xl, today's and the next upgrade's, beside our wrapper.
put_xl_in_front() {
    ! has_dpkg || divert --add
    mkdir -p "${xl%/*}"
    if is_there "$xl" && ! is_ours "$xl"; then
        put "$xl" "$stock_xl"
    fi
    ln -sfn "$wrapper" "$xl.new"
    mv -T "$xl.new" "$xl"
}

put_xl_back() {
    if is_there "$stock_xl" && { is_ours "$xl" || ! is_there "$xl"; }; then
        put "$stock_xl" "$xl"
    elif is_ours "$xl"; then
        rm "$xl"
    fi
    ! has_dpkg || divert --remove
    if cmp -s "$stock_xl" "$xl"; then rm "$stock_xl"; fi
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
    [[ -e $manifest ]] || { echo "$0: cmake --install comes first" >&2; exit 1; }

    put_xl_in_front
    mkdir -p "$wants"
    ln -sfn /usr/lib/systemd/system/blktap.service "$wants/blktap.service"
    run_depmod
    if on_this_machine; then
        systemctl daemon-reload
        systemd-tmpfiles --create blktap.conf
        udevadm control --reload || true
        renew_module
    fi
}

do_uninstall() {
    local directory file
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

    rm -f "$wants"/{blktap,blktap-devd}.service
    put_xl_back
    rm -f "$root"/lib/modules/*/updates/blktap.ko
    run_depmod
    if cmp -s "$here/etc/default" "$root$settings"; then
        rm "$root$settings"
    fi
    if [[ -e $manifest ]]; then
        while read -r file; do
            [[ $file == "$settings" ]] || rm -f "$root$file"
        done < <(cat "$manifest")
    fi
    while read -r directory; do
        rmdir --ignore-fail-on-non-empty "$directory" 2>/dev/null || true
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
    sed -n '4,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
