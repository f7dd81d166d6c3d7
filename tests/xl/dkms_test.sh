#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The real DKMS, with file systems of the test's own where it works: that it builds the module, for
# which kernels, and that none loses the module that it has.

# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"

top=$(realpath "$here/../..")
readonly top
command -v dkms >/dev/null || skip "no dkms"
[[ $(id -u) == 0 ]] || skip "dkms needs root"
if [[ ! ${OWN_MOUNTS:-} ]]; then
    unshare -m true 2>/dev/null || skip "no mount namespaces here"
    rmdir "$scratch"
    OWN_MOUNTS=1 exec unshare -m "$0" "$@"
fi

readonly old=6.1.0-1-amd64 new=6.12.1+deb12-amd64 # kernels that the module is for

# No kernel, no headers, nothing that DKMS knows; and a copy of the sources.
prepare() {
    local dir
    for dir in /lib/modules /usr/src /var/lib/dkms; do
        umount "$dir" 2>/dev/null || : # the last case's
        mount -t tmpfs none "$dir"
    done
    mkdir "$t/tree"
    cp -r "$top"/{blktap-kmod,ring,scripts,LICENSE,CMakeLists.txt} "$t/tree"
    echo 1 >"$t/tree/blktap-kmod/edition"
    kernel "$old"
    kernel "$new"
}

# Headers with which make gives a module that tells which edition of the sources it is of.
kernel() { # KERNEL [OPTION...]: without OPTION those that the module needs
    local dir=/lib/modules/$1/build
    shift
    (($#)) || set -- CONFIG_XEN_BACKEND CONFIG_MMU_NOTIFIER
    mkdir -p "$dir/include"
    printf '%s=y\n' "$@" >"$dir/.config"
    cat >"$dir/Makefile" <<'END'
modules:
	printf 'const char v[] __attribute__((section(".modinfo"))) = "version=%s";' \
	    $$(cat $(M)/edition) | cc -x c -c - -o $(M)/blktap.ko
clean:
END
}

breaks() { # KERNEL: nothing compiles for it
    echo 'modules:; false' >"/lib/modules/$1/build/Makefile"
}

edition() { # EDITION
    echo "$1" >"$t/tree/blktap-kmod/edition"
}

install_for() { # KERNEL
    echo copied >"$t/blktap.ko"
    DESTDIR='' "$t/tree/scripts/install-module" "$1" "$t/blktap.ko" >"$t/log" 2>&1
}

must() { # COMMAND...
    "$@" || die "$* failed: $(cat "$t/log")"
}

has() { # KERNEL EDITION
    same "module of $1" "$2" "$(modinfo -F version "/lib/modules/$1/updates/dkms/blktap.ko" 2>&1)"
}

has_none() { # KERNEL
    same "modules of $1" "" "$(find "/lib/modules/$1" -name 'blktap.ko*')"
}

# What the packages of a kernel and of its headers run.
package_of() { # KERNEL
    /etc/kernel/postinst.d/dkms "$1" >"$t/log" 2>&1
}

# DKMS is slow: what most cases begin with is installed once.
installed() {
    local dir save=$scratch/installed
    if [[ ! -d $save ]]; then
        must install_for "$old"
        for dir in /lib/modules /usr/src /var/lib/dkms; do
            mkdir -p "$save$dir"
            cp -a "$dir/." "$save$dir"
        done
    fi
    for dir in /lib/modules /usr/src /var/lib/dkms; do
        cp -a "$save$dir/." "$dir"
    done
}

other_version() {
    sed -i 's/^project(blktap VERSION [0-9.]*/project(blktap VERSION 99.9/' "$t/tree/CMakeLists.txt"
}

case_the_sources_build_the_module() {
    local kver headers trees=(--dkmstree "$t/dkms" --sourcetree "$t/src")
    umount /lib/modules /usr/src # where the headers are
    kver=$("$top/scripts/kernels" | head -1)
    headers=$("$top/scripts/kernels" --headers "$kver")
    "$top/scripts/install-module" --sources "$t/src/blktap"
    local version
    version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' "$t/src/blktap/dkms.conf")
    mv "$t/src/blktap" "$t/src/blktap-$version"
    mkdir "$t/dkms"
    must dkms "${trees[@]}" add -m blktap -v "$version" >"$t/log" 2>&1
    dkms "${trees[@]}" build -m blktap -v "$version" -k "$kver" --kernelsourcedir "$headers" \
        >"$t/log" 2>&1 || die "$(cat "$t/log" "$t"/dkms/blktap/*/build/make.log)"
    same vermagic "$kver" \
        "$(modinfo -F vermagic "$t/dkms/blktap/$version/$kver/"*/module/blktap.ko* | cut -d' ' -f1)"
}

# Whatever was installed without DKMS, and whatever other kernels there are.
case_every_kernel_that_it_is_for_gets_the_module() {
    local kernel
    for kernel in "$old" "$new"; do
        install -D /dev/null "/lib/modules/$kernel/updates/blktap.ko"
    done
    kernel 6.10.0-1-amd64
    kernel 6.1.0-2-amd64 CONFIG_MMU_NOTIFIER
    mkdir /lib/modules/6.1.0-3-amd64 # without headers
    must install_for "$new"
    has "$old" 1
    has "$new" 1
    same modules "$(printf '%s\n' /lib/modules/{"$old","$new"}/updates/dkms/blktap.ko)" \
        "$(find /lib/modules -name blktap.ko | sort)"
}

case_a_kernel_for_which_it_fails_keeps_its_module() {
    installed
    edition 2
    breaks "$new"
    must install_for "$old"
    has "$old" 2
    has "$new" 1
    grep -q "WARNING: no new module for $new" "$t/log"
    # And nothing of it stays when all goes.
    "$t/tree/scripts/install-module" --remove >"$t/log" 2>&1 || die "$(cat "$t/log")"
    has_none "$old"
    has_none "$new"
    same "what DKMS has" "" "$(find /usr/src /var/lib/dkms -name 'blktap*')"
}

case_when_it_fails_for_the_wanted_kernel_all_keep_theirs() {
    installed
    edition 2
    breaks "$new"
    if install_for "$new"; then die "success, and nothing is built"; fi
    has "$old" 1
    has "$new" 1
}

case_another_version_goes_when_no_kernel_needs_it() {
    installed
    edition 2
    other_version
    breaks "$new"
    must install_for "$old"
    has "$old" 2
    has "$new" 1
    dkms status -m blktap -k "$new" | grep -q '^blktap/0.*: installed'
    kernel "$new"
    must install_for "$old"
    has "$new" 2
    same "sources" /usr/src/blktap-99.9 "$(echo /usr/src/blktap-*)"
    same "versions" 99.9 "$(dkms status -m blktap | sed 's,blktap/\([^,]*\).*,\1,' | sort -u)"
}

# A kernel's package must not fail because the module is not for it.
case_packages_of_kernels_install() {
    installed
    kernel 6.6.0-1-amd64
    kernel 6.1.0-2-amd64 CONFIG_MMU_NOTIFIER
    kernel 6.12.2+deb12-amd64
    must package_of 6.6.0-1-amd64
    has_none 6.6.0-1-amd64
    must package_of 6.1.0-2-amd64
    has_none 6.1.0-2-amd64
    must package_of 6.12.2+deb12-amd64
    has 6.12.2+deb12-amd64 1
    has "$old" 1
}

case_without_its_headers_the_module_is_copied() {
    breaks "$new"
    mkdir /lib/modules/6.1.0-2-amd64
    must install_for 6.1.0-2-amd64
    same module copied "$(cat /lib/modules/6.1.0-2-amd64/updates/blktap.ko)"
    has "$old" 1
}

run_cases
