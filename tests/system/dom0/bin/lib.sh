# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# For scripts that run in dom0 of the nested host: guests, their disks, what may be left of them.

# What `set -x` of a case shows has the seconds since its start.
PS4='+$SECONDS '

say() { echo "$*" >&3; echo "== $*"; } # progress, seen on the outside
die() { say "failed: $*"; exit 1; }
exec {silence}<> <(:)                     # nobody ever writes to it
nap() { read -rt "$1" -u "$silence" || :; } # sleeps without a process

wait_for() { # SECONDS COMMAND...: until the command succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "gave up waiting for: $*" >&2; return 1; }
        nap 0.2
    done
}

all_zero() { [ "$(sort -u "$@")" = 0 ]; } # FILE...

# --- guests ---------------------------------------------------------------------------------------

guest_console() { echo "/var/log/xen/console/guest-$1.log"; } # all it ever printed
guest_tty() { xenstore-read "/local/domain/$(xl domid "$1")/console/tty"; }
guest_gone() { ! xl domid "$1" > /dev/null 2>&1; }

# Prints the configuration of a guest, as a user would write it. GUEST_TYPE: pv or pvh (pvh needs a
# host of one CPU). GUEST_KERNEL: a series, such as 6.12, of the files /srv/vmlinux-*. GUEST_EXTRA:
# more of its command line.
guest_config() { # NAME DISK...
    local name=$1 kernel=${GUEST_KERNEL:+-$GUEST_KERNEL}
    shift
    cat <<END
name = "$name"
type = "${GUEST_TYPE:-pv}"
kernel = "/srv/vmlinux$kernel"
ramdisk = "/srv/initrd$kernel"
extra = "root=/dev/xvda console=hvc0 ${GUEST_EXTRA:-}"
memory = 384
vcpus = ${GUEST_VCPUS:-1}
disk = [$(printf " '%s'," "$@") ]
END
}

# Create, and wait until the guest takes commands.
guest_start() { # NAME CONFIG-FILE [SECONDS]
    : > "$(guest_console "$1")"
    xl create -q "$2" && wait_for "${3:-240}" grep -qa "^guest: ready" "$(guest_console "$1")"
}

guest_send() { # NAME ID SCRIPT
    local line
    line="run $2 $(base64 -w0 <<< "$3")"
    printf '%s\n' "$line" > "${GUEST_TTY:-$(guest_tty "$1")}"
}

# GUEST_TTY: its guest_tty, for those to whom the price of looking it up matters.
guest_run() { # NAME SECONDS SCRIPT: run a script in the guest, print its output, return its status
    # Waits in a read of the console: polling would cost dom0 time that benchmarks count.
    local tty line id=$RANDOM$RANDOM end=$((SECONDS + $2)) shown=
    tty=${GUEST_TTY:-$(guest_tty "$1")} || return 1
    exec {console}<> "$tty"
    GUEST_TTY=$tty guest_send "$1" $id "$3"
    while [ $SECONDS -lt $end ] && read -rt $((end - SECONDS)) -u "$console" line; do
        line=${line%$'\r'}
        case $line in
        "guest: begin $id") shown=1 ;;
        *"guest: end $id "*) # perhaps after a line that has no end
            exec {console}>&-
            [ "${line%%guest: end *}" = "" ] || printf '%s\n' "${line%%guest: end *}"
            return "${line##* }"
            ;;
        *) [ -z "$shown" ] || printf '%s\n' "$line" ;;
        esac
    done
    exec {console}>&-
    echo "guest $1: no answer within $2 s"
    return 124
}

guest_stop() { # NAME: power off from the inside
    # reboot(2) with POWER_OFF; unlike sysrq's, it halts a PVH guest, which Xen takes as the end.
    guest_send "$1" 0 \
        'sync; mount -o remount,ro /; perl -e "syscall(169, 0xfee1dead, 672274793, 0x4321fedc)"'
    wait_for 60 guest_gone "$1"
}

# --- the host ----------------------------------------------------------------------------------

# Reboots this host as a user would. The case is run again, then; nothing but file systems is left.
reboot_host() {
    touch /var/tmp/rebooted
    dmesg > "${NESTED_TOKEN%/*}/dmesg-before"
    echo reboot >&3
    nap 2 # until `nested` lets it
    systemctl reboot
    sleep infinity
}

has_rebooted() { [ -e /var/tmp/rebooted ]; }

# --- what must not be left ------------------------------------------------------------------------

grants_dumped() { # Xen has printed them, from its first line to its last
    xl dmesg > /run/grants
    grep -q 'gnttab_usage_print_all \[' /run/grants &&
        grep -q 'gnttab_usage_print_all \] done' /run/grants
}

grants_mapped() { # prints Xen's entries for pages of guests that dom0 has mapped
    xl dmesg -c >> "$NESTED_RESULTS/xen-dmesg"
    xl debug-keys g
    wait_for 5 grants_dumped || { echo "Xen has not printed its grants"; return; }
    # Lines [ref] grantee ... below the granter's head line.
    awk '/grant-table for remote/ { granter = $(NF - 1) }
        / *\[0x[0-9a-f]+\] +0 / { print granter " " $0 }' /run/grants
}

leftovers() { # prints what is left of guests and their disks; nothing, when all is well
    xl list | awk 'NR > 1 && $1 != "Domain-0" { print "domain:", $0 }'
    xenstore-ls -f /local/domain/0/backend 2>/dev/null |
        sed -n '/\/vbd.*\/state = /s/^/xenstore: /p'
    pgrep -a tapdisk | sed 's/^/process: /'
    systemctl list-units --all --plain --no-legend 'blktap-tapdisk@*' | sed 's/^/unit: /'
    find /dev/blktap /run/blktap -mindepth 1 -name 'vbd-*' 2>/dev/null | sed 's/^/file: /'
    losetup -a | sed 's/^/loop: /'
    [ ! -e /sys/module/blktap/refcnt ] || [ "$(cat /sys/module/blktap/refcnt)" = 0 ] ||
        echo "module: $(cat /sys/module/blktap/refcnt) references"
}

nothing_left() { [ -z "$(leftovers)" ]; }

check_nothing_left() { # within a few seconds, for udev and systemd finish on their own
    wait_for 15 nothing_left || { leftovers; return 1; }
    [ -z "$(grants_mapped)" ] || { grants_mapped; return 1; }
}

evidence() { # prints what is there, for what has failed
    leftovers
    local vbd name
    for vbd in /sys/class/blktap/vbd-*; do
        [ -d "$vbd" ] || continue
        echo "${vbd##*/}: $(cd "$vbd/statistics" && for name in *; do
            [ "$(< "$name")" = 0 ] || printf '%s=%s ' "$name" "$(< "$name")"
        done)"
    done
    xenstore-ls -f /local/domain/0/backend
    ps -eLo pid,tid,stat,time,wchan:32,comm
}

kernel_log_bad() { # prints the lines of standard input that are defects; false when there are none
    grep -aE -e 'BUG:|WARNING:|Oops|Bad page|Call Trace|unable to handle|general protection' \
        -e 'hung_task|blocked for more than|soft lockup|rcu.*stall|Kernel panic|double fault' \
        -e '(circular|recursive|inconsistent) lock|suspicious RCU|refcount_t|list_(add|del) corr'
}

# --- verdict of a case ----------------------------------------------------------------------------

passed() { echo passed > "$NESTED_TOKEN"; }
skip() { echo "skipped: $*" > "$NESTED_TOKEN"; exit 0; }
