#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Files and install.sh below a root file system of its own: that stock xl ends up behind ours, stays
# there when dpkg upgrades it, and that uninstall leaves nothing.
#   install_test.sh BUILD_DIR

# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"

build=$(realpath "$1")
readonly build
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

put_files() {
    DESTDIR=$root cmake --install "$build" >/dev/null
}

glue() {
    (($#)) || put_files
    DESTDIR=$root "$glue/install.sh" "$@"
}

# Programs that fail, found before the real ones.
failing() { # PROGRAM...
    local program
    mkdir "$t/bin"
    for program; do
        printf '#!/bin/sh\nexit 127\n' >"$t/bin/$program"
        chmod +x "$t/bin/$program"
    done
    PATH=$t/bin:$PATH
}

listing() {
    (cd "$root" && find . -not -path './var/lib/dpkg*' -printf '%p %y %m %l\n' | sort)
}

is_our_xl() {
    same xl ../libexec/blktap/xl-tapzc "$(readlink "$root/usr/sbin/xl")"
    [[ -x $root/usr/sbin/xl ]]
    same "stock xl" ../lib/xen-common/bin/xen-utils-wrapper \
        "$(readlink "$root/usr/sbin/xl.xen-utils-common")"
    same "link called xl" /usr/sbin/xl.xen-utils-common "$(readlink "$root/usr/libexec/blktap/xl")"
}

case_install_and_uninstall_leave_nothing() {
    dpkg_root -i "$scratch/1.deb"
    listing >"$t/before"
    glue
    is_our_xl
    [[ -x $root/etc/xen/scripts/block-tapzc && -x $root/usr/libexec/blktap/hotplug ]]
    local preload
    preload=$(sed -n 's/^preload=//p' "$root/usr/sbin/xl")
    [[ $preload == /usr/lib/*/blktap/libxlu-tapzc.so && -f $root$preload ]]
    glue --uninstall
    listing >"$t/after"
    diff "$t/before" "$t/after"
    same diversions "" "$(dpkg-divert --root="$root" --list '*xl*')"
}

# A package is made of them: its scripts do the rest.
case_files_are_put_without_touching_the_system() {
    dpkg_root -i "$scratch/1.deb"
    echo 'TAPDISK_OPTIONS="--engine libaio"' >"$root/etc/default/blktap"
    listing >"$t/before"
    put_files
    listing >"$t/after"
    same "what is gone or changed" "" "$(comm -23 "$t/before" "$t/after")"
    same diversions "" "$(dpkg-divert --root="$root" --list '*xl*')"
    same xl ../lib/xen-common/bin/xen-utils-wrapper "$(readlink "$root/usr/sbin/xl")"
    grep -q libaio "$root/etc/default/blktap"
    [[ -x $root/usr/sbin/tapdisk && -f $root/usr/share/man/man5/xl-disk-tapzc.5 ]]
}

case_whatever_fails_there_is_an_xl() {
    local program path=$PATH
    dpkg_root -i "$scratch/1.deb"
    put_files
    for program in dpkg-divert cp ln mv; do
        rm -rf "${t:?}/bin"
        failing "$program"
        if DESTDIR=$root "$glue/install.sh" 2>/dev/null; then
            die "success without $program"
        fi
        PATH=$path
        same "xl without $program" ../lib/xen-common/bin/xen-utils-wrapper \
            "$(readlink "$root/usr/sbin/xl")"
    done
    for program in dpkg-divert cp mv; do
        rm -rf "${t:?}/bin"
        glue
        is_our_xl
        failing "$program"
        if glue --uninstall 2>/dev/null; then die "success without $program"; fi
        PATH=$path
        [[ -L $root/usr/sbin/xl ]] || die "no xl without $program"
    done
    glue --uninstall
    same xl ../lib/xen-common/bin/xen-utils-wrapper "$(readlink "$root/usr/sbin/xl")"
    same "what else is there" "" "$(compgen -G "$root/usr/sbin/xl.*" || true)"
}

case_uninstall_needs_no_compiler() {
    dpkg_root -i "$scratch/1.deb"
    glue
    failing gcc cc cmake make
    glue --uninstall
    [[ ! -e $root/usr/sbin/tapdisk ]]
}

# It put a copy of the wrapper where there is a link today.
case_what_an_earlier_release_has_put_is_ours() {
    dpkg_root -i "$scratch/1.deb"
    glue
    cp --remove-destination "$(realpath "$root/usr/sbin/xl")" "$root/usr/sbin/xl"
    glue
    is_our_xl
    glue --uninstall
    same xl ../lib/xen-common/bin/xen-utils-wrapper "$(readlink "$root/usr/sbin/xl")"
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

case_files_of_an_earlier_release_go() {
    glue
    listing >"$t/once"
    touch "$root/usr/libexec/blktap/earlier"
    sed -i '1i/usr/libexec/blktap/earlier' "$root/usr/share/blktap/files"
    glue
    listing >"$t/twice"
    diff "$t/once" "$t/twice"
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
