# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The world of the hotplug script as its tests make it up: a vbd that waits for its disk, an
# image, and stand-ins for the programs that the script runs. Sourced after check.sh.

# shellcheck disable=SC2154  # t comes from check.sh
# shellcheck disable=SC2016  # what stands in single quotes is for the stubs

readonly vbd=vbd-3-51712

# xenstore is a directory tree, a unit a directory of its properties, and one that has not ended has
# a cgroup.
prepare() {
    mkdir -p "$t"/bin "$t"/store "$t"/unit "$t"/run/systemd/system "$t"/img
    bus=$t/sys/bus/xen-backend
    mkdir -p "$bus"/devices/$vbd "$bus"/drivers/vbd "$bus"/drivers/blktap
    mkdir -p "$t"/sys/class/blktap/$vbd "$t"/sys/fs/cgroup/blktap.slice
    echo 0 >"$t"/sys/class/blktap/$vbd/tapdisk_pid
    echo initwait >"$t"/sys/class/blktap/$vbd/state
    ln -s ../../drivers/blktap "$bus/devices/$vbd/driver"

    stub xenstore-read <<'END'
[[ $1 == -R ]] || exit 9
[[ -f $t/store/$2 ]] || exit 1
cat "$t/store/$2"
END
    stub xenstore-ls <<'END'
if [[ $1 == -f ]]; then
    cd "$t/store" && find "$2" -type f -printf '%p = "' -exec cat {} \; -printf '"\n' 2>/dev/null
    exit
fi
cd "$t/store/$1" 2>/dev/null || exit 1
for key in *; do
    [[ -f $key ]] && printf '%s = "%s"\n' "$key" "$(cat "$key")"
done
END
    stub xenstore-write <<'END'
[[ $1 == -R && ! -e $t/store_fails ]] || exit 9
shift
while (($#)); do
    mkdir -p "$t/store/${1%/*}"
    printf %s "$2" >"$t/store/$1"
    shift 2
done
END
    stub systemctl <<'END'
echo "$*" >>"$t/systemctl.log"
. "$t/unit_is"
case $* in
"show --property="*) cat "$t/unit/$(sed 's/.*--property=\([^ ]*\).*/\1/' <<<"$*")" 2>/dev/null ;;
"start "*) [[ ! -e $t/on_start ]] || . "$t/on_start"
    grep -qsx active "$t/unit/ActiveState" || echo 4711 >"$t/pid"
    unit_is active
    [[ ! -e $t/pid ]] || cp "$t/pid" "$t"/sys/class/blktap/*/tapdisk_pid 2>/dev/null || : ;;
"kill --kill-whom=main --signal=TERM "*) [[ -e $t/deaf ]] || unit_is inactive ;;
"kill --signal=KILL "*) [[ -e $t/undead ]] || unit_is failed ;;
"reset-failed "*) sed -i s/failed/inactive/ "$t/unit/ActiveState" 2>/dev/null
esac
END
    declare -f unit_is >"$t/unit_is"
    stub journalctl <<<'cat "$t/journal" 2>/dev/null'
    stub logger <<<'echo "$*" >>"$t/log"'
    stub modprobe <<<'exit 0'

    image=$t/img/disk.img
    echo data >"$image"
    store backend/vbd/3/51712/state 2
    store backend/vbd/3/51712/mode w
    store backend/vbd/3/51712/params "$image"
    store /local/domain/3/vm /vm/1f0e2d3c-0000-0000-0000-00000000abcd
    store /local/domain/3/name guest
}

unit_is() {
    local cgroup=$t/sys/fs/cgroup/blktap.slice
    echo "$1" >"$t/unit/ActiveState"
    [[ -d $cgroup ]] || return 0
    cgroup+=/blktap-tapdisk@vbd-3-51712.service
    case $1 in
    inactive | failed) rm -rf "$cgroup" ;;
    *) mkdir -p "$cgroup" ;;
    esac
}

stub() {
    { echo "#!/bin/bash"; cat; } >"$t/bin/$1"
    chmod +x "$t/bin/$1"
}

store() {
    mkdir -p "$t/store/$(dirname "$1")"
    printf %s "$2" >"$t/store/$1"
}

# Nothing opens it: that is tapdisk's.
device_as_image() {
    image=$t/img/device
    mknod -m 600 "$image" b 7 250
    store backend/vbd/3/51712/params "$image"
}

stored() {
    cat "$t/store/backend/vbd/3/51712/$1" 2>/dev/null || true
}

run() {
    status=0
    env t="$t" BLKTAP_ROOT="$t" PATH="$t/bin:$PATH" XENBUS_PATH="${path:-backend/vbd/3/51712}" \
        timeout 60 "${script:-$glue/block-tapzc}" "$@" >"$t/stdout" 2>"$t/stderr" || status=$?
}

expect_success() {
    same status 0 "$status"
    same output "" "$(cat "$t/stdout" "$t/stderr")"
}

expect_attached() {
    expect_success
    same hotplug-status connected "$(stored hotplug-status)"
    same tapdisk-pid 4711 "$(stored tapdisk-pid)"
    same ActiveState active "$(cat "$t/unit/ActiveState")"
}

nothing_left() {
    same "files in /run/blktap" "" "$(ls "$t/run/blktap" 2>/dev/null)"
    case $(cat "$t/unit/ActiveState" 2>/dev/null) in
    active | failed | activating) die "the unit is still there" ;;
    esac
}

fail_start() {
    echo 'unit_is failed; echo "Job failed." >&2; exit 1' >"$t/on_start"
}

expect_refused() {  # message
    same status 1 "$status"
    same output "" "$(cat "$t/stdout" "$t/stderr")"
    same hotplug-error "$1" "$(stored hotplug-error)"
    same hotplug-status error "$(stored hotplug-status)"
    nothing_left
}

expect_not_started() {
    ! grep -qs '^start' "$t/systemctl.log" || die "tapdisk was started"
}

identity() { # PATH: as tapdisk sees it
    stat -L -c 'file:%Hd.%Ld:%i:%.9W' -- "$1"
}

args() {
    paste -sd' ' "$t/run/blktap/$vbd.args"
}
