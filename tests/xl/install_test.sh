#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# install.sh below a root file system of its own: that stock xl ends up behind ours, stays there
# when dpkg upgrades it, and that uninstall leaves nothing.
#   install_test.sh BUILD_DIR

# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"

BUILD_DIR=$(realpath "$1")
export BUILD_DIR
command -v dpkg-deb >/dev/null || skip "no dpkg"
[[ $(id -u) == 0 ]] || skip "dpkg --root needs root"

# A stand-in for xen-utils-common: the same link and script, and nothing else.
package() {  # version
    local tree=$scratch/package-$1
    mkdir -p "$tree/DEBIAN" "$tree/usr/sbin" "$tree/usr/lib/xen-common/bin" "$tree/etc/xen/scripts"
    printf '%s\n' "Package: xen-utils-common" "Version: $1" "Architecture: all" \
        "Maintainer: nobody <nobody@example.org>" "Description: stand-in" >"$tree/DEBIAN/control"
    echo "echo stock $1" >"$tree/usr/lib/xen-common/bin/xen-utils-wrapper"
    ln -s ../lib/xen-common/bin/xen-utils-wrapper "$tree/usr/sbin/xl"
    dpkg-deb --root-owner-group -b "$tree" "$scratch/$1.deb" >/dev/null
}

dpkg_root() {
    dpkg --root="$root" --log=/dev/null --force-not-root "$@" >/dev/null 2>&1
}

# A system with a dpkg database, and the directories that any has.
prepare() {
    root=$t/root
    mkdir -p "$root"/{etc/systemd/system/multi-user.target.wants,etc/default,usr/sbin,var/lib/dpkg}
    mkdir -p "$root"/var/lib/dpkg/{info,updates,triggers,alternatives}
    mkdir -p "$root"/usr/{libexec,share/doc,share/bash-completion/completions,share/man/man{4,5,8}}
    mkdir -p "$root"/usr/lib/{systemd/system,udev/rules.d,modprobe.d,tmpfiles.d}
    mkdir -p "$root/usr/lib/$(gcc -print-multiarch)"
    touch "$root"/var/lib/dpkg/{status,available}
}

glue() {
    DESTDIR=$root "$glue/install.sh" "$@"
}

listing() {
    (cd "$root" && find . -not -path './var/lib/dpkg*' -printf '%p %y %m %l\n' | sort)
}

is_our_xl() {
    grep -q libxlu-tapzc.so "$root/usr/sbin/xl"
    same "stock xl" ../lib/xen-common/bin/xen-utils-wrapper \
        "$(readlink "$root/usr/sbin/xl.xen-utils-common")"
    same "link called xl" /usr/sbin/xl.xen-utils-common "$(readlink "$root/usr/libexec/blktap/xl")"
}

case_install_and_uninstall_leave_nothing() {
    dpkg_root -i "$scratch/1.deb"
    listing >"$t/before"
    glue
    is_our_xl
    [[ -x $root/etc/xen/scripts/block-tapzc && -x $root/usr/libexec/blktap/block-tapzc ]]
    [[ $(sed -n 's/^preload=//p' "$root/usr/sbin/xl") == /usr/lib/*/blktap/libxlu-tapzc.so ]]
    [[ -f $root$(sed -n 's/^preload=//p' "$root/usr/sbin/xl") ]]
    glue --uninstall
    listing >"$t/after"
    diff "$t/before" "$t/after"
    same diversions "" "$(dpkg-divert --root="$root" --list '*xl*')"
}

case_install_twice_is_install_once() {
    dpkg_root -i "$scratch/1.deb"
    glue
    listing >"$t/once"
    glue
    listing >"$t/twice"
    diff "$t/once" "$t/twice"
    is_our_xl
}

case_xen_is_upgraded_in_between() {
    dpkg_root -i "$scratch/1.deb"
    glue
    dpkg_root -i "$scratch/2.deb"
    is_our_xl
    glue
    is_our_xl
    glue --uninstall
    same xl ../lib/xen-common/bin/xen-utils-wrapper "$(readlink "$root/usr/sbin/xl")"
    same "stock xl" "echo stock 2" "$(cat "$root/usr/sbin/xl")"
    dpkg_root --audit
}

case_xen_is_installed_later() {
    glue
    dpkg_root -i "$scratch/1.deb"
    is_our_xl
    glue --uninstall
    [[ -L $root/usr/sbin/xl ]]
}

case_xen_is_removed_in_between() {
    dpkg_root -i "$scratch/1.deb"
    glue
    dpkg_root -r xen-utils-common
    [[ ! -L $root/usr/sbin/xl.xen-utils-common ]]
    glue --uninstall
    [[ ! -e $root/usr/sbin/xl ]]
}

case_uninstall_twice() {
    dpkg_root -i "$scratch/1.deb"
    glue
    glue --uninstall
    glue --uninstall
    [[ -L $root/usr/sbin/xl ]]
}

case_staging_directory_gets_files_only() {
    rm -r "$root"
    glue
    [[ -x $root/usr/sbin/xl && ! -e $root/var && ! -e $root/usr/sbin/xl.xen-utils-common ]]
    glue --uninstall
    same "files left" "" "$(find "$root" -not -type d)"
}

case_xl_without_dpkg_is_moved_aside() {
    rm -r "${root:?}/var"
    echo stock >"$root/usr/sbin/xl"
    glue
    glue
    same "moved xl" stock "$(cat "$root/usr/sbin/xl.xen-utils-common")"
    glue --uninstall
    same "xl" stock "$(cat "$root/usr/sbin/xl")"
}

case_settings_of_the_administrator_stay() {
    echo 'TAPDISK_OPTIONS="--engine libaio"' >"$root/etc/default/blktap"
    glue
    glue --uninstall
    grep -q libaio "$root/etc/default/blktap"
}

case_service_is_enabled() {
    glue
    [[ -f $root$(readlink "$root/etc/systemd/system/multi-user.target.wants/blktap.service") ]]
}

# systemd's own judgement. It wants the commands to be there, and tapdisk is not, yet.
case_units_verify() {
    command -v systemd-analyze >/dev/null
    cp "$glue"/systemd/* "$t"
    sed -i 's|/usr/sbin/tapdisk|/bin/true|' "$t/blktap-tapdisk@.service"
    timeout 30 systemd-analyze verify --man=no "$t"/blktap-tapdisk@vbd-1-51712.service \
        "$t"/blktap.service "$t"/blktap.slice >"$t/said" 2>&1 || die "$(cat "$t/said")"
    same "what systemd says" "" "$(grep blktap "$t/said" || true)"
}

package 1
package 2
run_cases
