#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What the product needs to be configured: not the tools of its tests.

# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"

if [[ ! ${OWN_MOUNTS:-} ]]; then
    unshare -m true 2>/dev/null || skip "no mount namespaces here"
    rmdir "$scratch"
    OWN_MOUNTS=1 exec unshare -m "$0" "$@"
fi

prepare() { :; }

configure() { # OPTION...
    cmake -S "$here/../.." -B "$t/build" -G Ninja "$@" >"$t/log" 2>&1 ||
        die "$(tail -n 30 "$t/log")"
    [[ $(ninja -C "$t/build" -t query tapdisk 2>&1) == *"outputs:"* ]] || die "no target tapdisk"
}

case_without_the_tools_of_the_tests() {
    local compiler
    if compiler=$(readlink -f "$(command -v clang++)"); then
        mount --bind /dev/null "$compiler" # which nobody may run
    fi
    configure -DCMAKE_DISABLE_FIND_PACKAGE_benchmark=ON -DCMAKE_DISABLE_FIND_PACKAGE_Python3=ON
    grep -q 'clang++ is not on this machine' "$t/log"
}

case_without_tests() {
    configure -DBLKTAP_TESTS=OFF
    [[ ! -d $t/build/tests ]] || die "tests are built all the same"
}

run_cases
