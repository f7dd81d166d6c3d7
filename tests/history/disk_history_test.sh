#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# disk_history_test.sh PROGRAM: a file keeps what it is given, and what others write is noticed.
set -e
program=$1
work=$(mktemp -d "$PWD/blktap-test-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
head -c 1M /dev/zero > disk

run() { # COMMAND...: beside the program
    rm -f stop
    "$program" disk "$PWD/stop" > out 2>&1 &
    sleep 1
    "$@"
    touch stop
    wait $!
}
old_sectors_come_back() {
    for _ in {1..50}; do
        dd if=disk of=old bs=64k count=1 status=none
        dd if=old of=disk bs=64k count=1 conv=notrunc status=none
    done
}

run true || { cat out; exit 1; }
grep -q '^[1-9][0-9]* requests in order' out
! run old_sectors_come_back || { echo "took a sector for new that was old"; exit 1; }
grep -q '^disk_history: sector [0-9]*: ' out || { cat out; exit 1; }
echo "noticed: $(cat out)"
if "$program" /dev/full stop > out 2>&1; then exit 1; fi
grep -q '^disk_history: ' out
