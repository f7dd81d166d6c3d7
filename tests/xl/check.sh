# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the shell tests here share: cases are functions called case_*, each in a fresh directory $t;
# the first failed expectation ends a case. Sourced; ends with run_cases.

set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck disable=SC2034  # for those who source this
readonly here glue=$here/../../xl-config
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

die() {
    echo "    $*" >&2
    exit 1
}

same() {  # what expected actual
    [[ $2 == "$3" ]] || die "$1: expected '$2', got '$3'"
}

skip() {
    echo "SKIPPED: $*"
    exit 77
}

run_cases() {
    local name rc failed=0 count=0
    set +e
    for name in $(compgen -A function case_); do
        t=$scratch/$name
        mkdir "$t"
        count=$((count + 1))
        # Not in a condition: there, set -e has no effect.
        (set -e; prepare; "$name")
        rc=$?
        if ((rc == 0)); then
            echo "ok   ${name#case_}"
        else
            echo "FAIL ${name#case_}"
            failed=$((failed + 1))
        fi
    done
    echo "$((count - failed)) of $count cases passed"
    exit $((failed > 0))
}
