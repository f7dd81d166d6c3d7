# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# One guest, one ram disk of dom0, one back end after the other on it: fio jobs and what they cost.
# Results go to $NESTED_RESULTS/measured, one number a line: BACK-END JOB NAME VALUE, by tabs.
#
# qdisk comes first or not at all: a PV guest has a device model only if its configuration has a
# qdisk.

# Each is KIND-SIZE-qdDEPTH; and those of which tapdisk's system calls are counted.
jobs=(randread-4k-qd1 randread-4k-qd32 randwrite-4k-qd32 read-128k-qd8 write-128k-qd8)
count_system_calls_of=()
ram=/dev/ram0

measure_ram() { # a disk in dom0's memory, filled, so that only the back ends differ
    modprobe brd rd_nr=1 rd_size=131072
    dd if=/dev/zero of=$ram bs=1M count=128 oflag=direct status=none
}

# The options of a back end, for the disks that come next.
set_options() { # BACK-END
    modprobe xen-blkback || return 1
    case $1 in
    blkback) echo Y > /sys/module/xen_blkback/parameters/feature_persistent ;;
    blkback-not-persistent) echo N > /sys/module/xen_blkback/parameters/feature_persistent ;;
    tap:*)
        local options=
        # The guest takes persistent grants. What these two measure is also what the defaults and
        # --profile copy do for a guest that does not.
        [[ $1 != *+zero-copy* ]] || options+=" --profile zero-copy"
        [[ $1 != *+copy* ]] || options+=" --profile copy --no-persistent-grants"
        [[ $1 != *+window* ]] || options+=" --data-path window"
        [[ $1 != *+submit* ]] || options+=" --data-path submit"
        [[ $1 != *+unconfined* ]] || options+=" --confine off"
        [[ $1 != *+poll* ]] || options+=" --poll-us 5000" # emulated guests are slow to ask again
        sed -i '/^TAPDISK_OPTIONS=/d' /etc/default/blktap
        echo "TAPDISK_OPTIONS='$options'" >> /etc/default/blktap
        ;;
    esac
}

disk_spec() { # BACK-END DEVICE
    case $1 in
    qdisk) echo "format=raw,vdev=$2,access=w,backendtype=qdisk,target=$ram" ;;
    blkback*) echo "phy:$ram,$2,w" ;;
    *) echo "${1%%+*}$ram,$2,w" ;;
    esac
}

note() { printf '%s\t%s\t%s\t%s\n' "$@" >> "$NESTED_RESULTS/measured"; }

note_versions() {
    {
        echo "Xen $(xl info | awk '$1 == "xen_version" { print $3 }')"
        echo "Linux $(uname -r) in dom0; a guest of type ${GUEST_TYPE:-pv}"
        echo "tapdisk $(tapdisk --version | awk '{ print $2 }')"
        dpkg-query -W -f 'QEMU ${Version} as qdisk\n' qemu-system-xen
    } > "$NESTED_RESULTS/versions"
}

# Both print NAME VALUE lines. What reading them costs dom0 is not to be among what is measured, so
# the CPU times are read last before a job, and first after it.

cpu_times() { # dom0's and the guest's, in ns, from Xen
    ./domain-time "$measured_domid"
}

counters() { # BACK-END: all that it offers
    local tapdisk
    case $1 in
    tap:zc:*) grep -H '' /sys/devices/blktap/statistics/* | sed 's,.*/,,; s/:/ /' ;;
    tap:*) ;;
    *) return ;;
    esac
    tapdisk=/proc/$(pgrep -o tapdisk)/task
    awk '/ctxt_switches/ { n[$1] += $2 } END { for (name in n) print name, n[name] }' \
        "$tapdisk"/*/status
    awk '{ ns += $1 } END { print "tapdisk_ns", ns }' "$tapdisk"/*/schedstat
}

guest_fio() { # JOB DEVICE FIO-LENGTH: prints fio's terse line
    local rw bs depth
    IFS=- read -r rw bs depth <<< "$1"
    guest_run measured 300 "fio --eta=never --minimal --terse-version=3 --name=j --rw=$rw --bs=$bs \
        --filename=/dev/$2 --iodepth=${depth#qd} --direct=1 --ioengine=libaio --randrepeat=1 \
        --norandommap $3" | grep '^3;'
}

tapdisk_system_calls() { # COMMAND...: sets system_calls to how many tapdisk makes meanwhile
    local trace=/sys/kernel/tracing
    ls "/proc/$(pgrep -o tapdisk)/task" > $trace/set_event_pid # a thread is a process to it
    echo > $trace/trace
    echo 1 > $trace/events/raw_syscalls/sys_enter/enable
    "$@" > /dev/null
    echo 0 > $trace/events/raw_syscalls/sys_enter/enable
    echo > $trace/set_event_pid # or each switch of tasks would look there from now on
    system_calls=$(cat $trace/per_cpu/cpu*/stats |
        awk '/^(entries|overrun)/ { n += $2 } END { print n }')
}

growth() { # BEFORE AFTER: by how much each of AFTER has grown, as NAME VALUE lines
    awk 'NR == FNR { before[$1] = $2; next } { printf "%s %.0f\n", $1, $2 - before[$1] }' \
        <(echo "$1") <(echo "$2")
}

# Sets overhead: the CPU times of a job that does one I/O. Starting fio and getting its output is
# work, too, but not what is measured. The least of several times, for dom0 is busy for a while
# after an attach: until, twice in a row, it was not less than before by more than a twentieth.
measure_overhead() { # DEVICE
    local before this now try least=0 same=0
    for try in {1..12}; do
        before=$(cpu_times)
        guest_fio randread-4k-qd1 "$1" --number_ios=1 > /dev/null || return 1
        this=$(growth "$before" "$(cpu_times)")
        now=$(awk '$1 == "dom0_ns" { print $2 }' <<< "$this")
        echo "overhead on $1, try $try: $now ns"
        if [ "$try" = 1 ] || [ $((now * 20)) -lt $((least * 19)) ]; then same=0; else ((++same)); fi
        if [ "$try" = 1 ] || [ "$now" -lt "$least" ]; then least=$now overhead=$this; fi
        [ $same -lt 2 ] || break
    done
}

measure_job() { # BACK-END JOB DEVICE FIO-LENGTH
    local rw bs rest before after terse name value ios
    IFS=- read -r rw bs rest <<< "$2"
    say "  $1 $2"
    before=$(counters "$1"; cpu_times)
    terse=$(guest_fio "$2" "$3" "$4") || return 1
    after=$(cpu_times; counters "$1")
    # Fields of fio's terse format: 6 on are reads, 47 on are writes; latency includes submission.
    local first=6
    case $rw in *write) first=47 ;; esac
    IFS=';' read -ra field <<< "0;$terse"
    [ "${field[5]}" = 0 ] || return 1
    ios=$((field[first] * 1024 / $(numfmt --from=iec "${bs^^}")))
    note "$1" "$2" ios $ios
    note "$1" "$2" kib_per_s "${field[first + 1]}"
    note "$1" "$2" iops "${field[first + 2]}"
    note "$1" "$2" latency_us "${field[first + 34]}"
    while read -r name value; do
        [ "$value" = 0 ] || note "$1" "$2" "${name%:}" "$value"
    done < <(growth "$overhead" "$(growth "$before" "$after")")
    # Counted in a run of its own, for counting has its price.
    [[ $1 == tap:* && " ${count_system_calls_of[*]} " == *" $2 "* ]] || return 0
    tapdisk_system_calls guest_fio "$2" "$3" --number_ios=200
    # Of what the module serves by itself there are none.
    [[ $1 == tap:zc:* && $1 != *+window* ]] || [ "$system_calls" -gt 0 ] || return 1
    note "$1" "$2" system_calls $((system_calls * ios / 200))
}

measure_back_end() { # BACK-END DEVICE FIO-LENGTHS: name of an associative array, job -> options
    local job
    local -n fio_length=$3
    guest_run measured 30 "until [ -b /dev/$2 ]; do sleep 0.1; done" || return 1
    measure_overhead "$2" || return 1
    for job in "${jobs[@]}"; do
        measure_job "$1" "$job" "$2" "${fio_length[$job]}" || return 1
    done
    say "measured $1"
}

measure() { # FIO-LENGTHS BACK-END...
    local lengths=$1 back_end device=xvdb
    shift
    measure_ram
    set_options "$1" || return 1
    guest_config measured phy:/srv/root.img,xvda,w "$(disk_spec "$1" $device)" > /run/measured.cfg
    guest_start measured /run/measured.cfg || return 1
    measured_domid=$(xl domid measured)
    # shellcheck disable=SC2034 # lib.sh looks at it
    GUEST_TTY=$(guest_tty measured)
    measure_back_end "$1" $device "$lengths" || return 1
    shift
    for back_end; do
        xl block-detach measured "$device" || return 1
        guest_run measured 30 "while [ -b /dev/$device ]; do sleep 0.1; done" || return 1
        # A new name each time: nothing can be mistaken for a leftover.
        device=xvd$(tr b-y c-z <<< "${device#xvd}")
        set_options "$back_end" || return 1
        xl block-attach measured "$(disk_spec "$back_end" "$device")" || return 1
        measure_back_end "$back_end" "$device" "$lengths" || return 1
    done
    unset GUEST_TTY
    guest_stop measured
}
