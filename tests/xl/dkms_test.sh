#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The sources that DKMS is given build the module, in a tree of DKMS's own.

# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"

readonly top=$here/../..
kver=$("$top/scripts/kernels" | head -1)
readonly kver
command -v dkms >/dev/null || skip "no dkms"
[[ $(id -u) == 0 ]] || skip "dkms needs root"

prepare() { :; }

case_dkms_builds_the_module() {
    local tree=$t/dkms
    "$top/scripts/install-module" --sources "$t/src/blktap"
    mkdir -p "$tree"
    local trees=(--dkmstree "$tree" --sourcetree "$t/src")
    local version
    version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' "$t/src/blktap/dkms.conf")
    mv "$t/src/blktap" "$t/src/blktap-$version"
    dkms "${trees[@]}" add -m blktap -v "$version" >"$t/log" 2>&1 || die "$(cat "$t/log")"
    dkms "${trees[@]}" build -m blktap -v "$version" -k "$kver" \
        --kernelsourcedir "$("$top/scripts/kernels" --headers "$kver")" >"$t/log" 2>&1 ||
        die "$(cat "$t/log" "$tree"/blktap/*/build/make.log)"
    same vermagic "$kver" \
        "$(modinfo -F vermagic "$tree/blktap/$version/$kver/"*/module/blktap.ko* | cut -d' ' -f1)"
}

run_cases
