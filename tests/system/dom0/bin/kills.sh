# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# For the cases that end tapdisks, again and again, under a load whose history is judged
# (tests/history). Use after lib.sh. KILLS: so many for each way to serve a disk. SEED: of the load,
# and of the order in which tapdisk meets its ends.

kills=${KILLS:-8}
RANDOM=${SEED:=1}
ways=("--engine io_uring --data-path window --no-persistent-grants"
    "--engine io_uring --data-path window" "--engine libaio --data-path window"
    "--data-path submit" "--data-path delegate" "--data-path mix"
    "--data-path window --copy 1m --no-persistent-grants")
declare -A ends=() # so many of each kind
pauses=()          # ms until there is another tapdisk

next_end() { # VBD: its tapdisk meets a random end, and another one is there
    local before=$EPOCHREALTIME pid kinds=(KILL KILL SEGV ABRT TERM restart upgrade) kind
    kind=${kinds[RANDOM % ${#kinds[@]}]}
    pid=$(cat "/sys/class/blktap/$1/tapdisk_pid")
    [ "$pid" -gt 0 ] || die "$1 has no tapdisk" # and to kill 0 is to kill ourselves
    case $kind in
    restart) systemctl restart "blktap-tapdisk@$1.service" ;;
    upgrade) tap-ctl upgrade "$1" > /dev/null ;;
    *) kill "-$kind" "$pid" ;;
    esac
    wait_for 30 grep -qvx "$pid\|0" "/sys/class/blktap/$1/tapdisk_pid"
    pauses+=($(((${EPOCHREALTIME/./} - ${before/./}) / 1000)))
    ends[$kind]=$((${ends[$kind]:-0} + 1))
}

in_guest() { # GUEST SCRIPT: or, without a guest, in dom0
    if [ "$1" ]; then guest_run "$1" 120 "$2"; else bash -c "$2"; fi
}

ends_on_each_way() { # GUEST|'': whose xvdp is served
    local options domid vbd replayed
    domid=$([ -z "$1" ] || xl domid "$1")
    vbd=vbd-${domid:=0}-51952
    cp /etc/default/blktap /run/blktap.default
    trap 'cp /run/blktap.default /etc/default/blktap' EXIT
    slow_device 16 20
    for options in "${ways[@]}"; do
        echo "TAPDISK_OPTIONS='$options'" > /etc/default/blktap
        xl block-attach "$domid" tap:zc:/dev/slow,xvdp,w
        wait_for 20 grep -qx connected "/sys/class/blktap/$vbd/state"
        in_guest "$1" "for _ in \$(seq 100); do [ ! -b /dev/xvdp ] || break; sleep 0.1; done
            rm -f /tmp/stop /tmp/history.status
            (/tmp/disk_history /dev/xvdp /tmp/stop $SEED > /tmp/history 2>&1
            echo \$? > /tmp/history.status) < /dev/null > /dev/null 2>&1 &"
        ends=() pauses=()
        while [ ${#pauses[@]} -lt "$kills" ]; do
            nap 0.$((RANDOM % 900 + 100))
            next_end "$vbd"
        done
        in_guest "$1" 'touch /tmp/stop
            for _ in $(seq 600); do [ ! -e /tmp/history.status ] || break; sleep 0.1; done
            cat /tmp/history; exit "$(cat /tmp/history.status)"' > /run/history ||
            { cat /run/history; die "$options: the history cannot be"; }
        (cd "/sys/class/blktap/$vbd/statistics" &&
            say "    $(tr -d '\r' < /run/history); replayed: $(cat requests_replayed)")
        all_zero "/sys/class/blktap/$vbd/statistics/responses_error"
        replayed+=" $(cat "/sys/class/blktap/$vbd/statistics/requests_replayed")"
        xl block-detach "$domid" xvdp
        wait_for 20 test ! -e "/sys/class/blktap/$vbd"
        say "  $options: $(for kind in "${!ends[@]}"; do printf '%s %s, ' "${ends[$kind]}" "$kind"
        done)another after ms: $(printf '%s\n' "${pauses[@]}" | sort -n | tr '\n' ' ')"
    done
    # Or nothing was lost, and nothing is proved.
    [ $((${replayed// /+})) -gt 0 ]
    slow_device_gone
}

# A guest of GUEST_TYPE in which all this happens. It reads the program from a disk.
ends_in_a_guest() {
    cp --sparse=always /srv/root.img /srv/kills.img
    cp disk_history /srv/disk_history
    truncate -s %4096 /srv/disk_history
    guest_config kills tap:zc:/srv/kills.img,xvda,w tap:zc:/srv/disk_history,xvdb,r > /run/kills.cfg
    guest_start kills /run/kills.cfg
    guest_run kills 60 'cat /dev/xvdb > /tmp/disk_history && chmod +x /tmp/disk_history'
    ends_on_each_way kills
    guest_run kills 60 '! dmesg | grep -i "I/O error"'
    guest_stop kills
    rm /srv/kills.img /srv/disk_history
}
