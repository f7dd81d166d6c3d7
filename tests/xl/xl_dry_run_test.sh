#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Debian's real xl, as far as `xl -N` goes without a hypervisor: what it makes of disk
# specifications, alone and through our wrapper and preload library.
#   xl_dry_run_test.sh libxlu-tapzc.so libxl-stubs.so

# shellcheck disable=SC2317  # cases are called by their name

. "$(dirname "$0")/check.sh"

library=$(realpath "$1")
stubs=$(realpath "$2")
readonly library stubs
readonly cache=${BLKTAP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/blktap}/xl

# xl as installed, or from its package, which is unpacked and not installed.
find_xl() {
    local version
    version=$(dpkg-query -W -f '${Version}' libxenmisc4.17 2>/dev/null) || skip "no libxenmisc4.17"
    for xl in /usr/lib/xen-4.17/bin/xl "$cache/$version/usr/lib/xen-4.17/bin/xl"; do
        [[ ! -x $xl ]] || return 0
    done
    (cd "$scratch" && timeout 60 apt-get -qq download "xen-utils-4.17=$version" 2>/dev/null) ||
        skip "cannot download xen-utils-4.17 $version"
    mkdir -p "$cache/$version"
    dpkg -x "$scratch"/xen-utils-4.17_*.deb "$cache/$version"
}

# Our wrapper, in front of a link to a script that runs xl by its own name, as in Debian.
prepare() {
    mkdir "$t/real" "$t/libexec"
    ln -s "$xl" "$t/real/xl"
    cat >"$t/xen-utils-wrapper" <<END
#!/bin/sh
exec $t/real/\${0##*/} "\$@"
END
    ln -s "$t/xen-utils-wrapper" "$t/xl.xen-utils-common"
    ln -s "$t/xl.xen-utils-common" "$t/libexec/xl"
    sed "s|^stock=.*|stock=$t/libexec/xl|; s|^preload=.*|preload=$library|" "$glue/xl.in" >"$t/xl"
    chmod +x "$t/xen-utils-wrapper" "$t/xl"
}

run() {
    status=0
    LD_PRELOAD=$stubs timeout 20 "$@" >"$t/out" 2>"$t/err" || status=$?
}

# What matters of the one disk that xl printed.
disk() {
    sed -n '/"\(pdev_path\|vdev\|format\|script\|readwrite\|removable\|is_cdrom\)"/s/^ *\|,$//gp' \
        "$t/out" | paste -sd' '
}

config() {
    printf '%s\n' 'name = "t"' 'type = "pv"' 'kernel = "/k"' 'memory = 64' "disk = [ '$1' ]" \
        >"$t/t.cfg"
}

readonly expected='"pdev_path": "/path/to/disk.img" "vdev": "xvda" "format": "raw" '\
'"script": "block-tapzc" "readwrite": 1'

case_stock_xl_refuses_tapzc() {
    config 'tap:zc:/path/to/disk.img,xvda,w'
    run "$xl" -N create "$t/t.cfg"
    same status 1 "$status"
    grep -q 'unknown deprecated disk prefix' "$t/err"
}

case_create() {
    config 'tap:zc:/path/to/disk.img,xvda,w'
    run "$t/xl" -N create "$t/t.cfg"
    same status 0 "$status"
    same disk "$expected" "$(disk)"
}

case_block_attach() {
    run "$t/xl" -N block-attach 1 tap:zc:/path/to/disk.img,xvda,w
    same status 0 "$status"
    same disk "$expected" "$(disk)"
}

case_block_attach_in_words() {
    run "$t/xl" -N block-attach 1 tap:zc:/path/to/disk.img xvda w
    same status 0 "$status"
    same disk "$expected" "$(disk)"
}

case_script_form_needs_no_library() {
    config 'script=block-tapzc,vdev=xvda,access=w,target=/path/to/disk.img'
    run "$xl" -N create "$t/t.cfg"
    same status 0 "$status"
    same disk "$expected" "$(disk)"
}

case_stock_disks_are_left_alone() {
    local spec
    for spec in /p,raw,xvda,w tap:aio:/p,xvda,r phy:/dev/vg/lv,sda1,w \
        vdev=xvda,target=tap:zc:/p,tap:zc:/q; do
        config "$spec"
        run "$xl" -N create "$t/t.cfg"
        same status 0 "$status"
        mv "$t/out" "$t/stock"
        run "$t/xl" -N create "$t/t.cfg"
        diff <(grep -v uuid "$t/stock") <(grep -v uuid "$t/out")
    done
}

case_create_without_the_module() {
    config 'tap:gnt:/path/to/disk.img,xvda,w'
    run "$t/xl" -N create "$t/t.cfg"
    same status 0 "$status"
    same disk "${expected/block-tapzc/block-tapgnt}" "$(disk)"
}

case_relative_path_is_refused_in_words_of_xl() {
    config 'tap:zc:disk.img,xvda,w'
    run "$t/xl" -N create "$t/t.cfg"
    same status 1 "$status"
    grep -qF "$t/t.cfg: config parsing error in disk specification: the path of a tap: disk must \
be absolute: near \`zc:disk.img' in \`tap:zc:disk.img,xvda,w'" "$t/err"
}

case_path_that_is_not_utf8_is_refused() {
    local spec
    for spec in $'tap:zc:/srv/m\xfcller.img,xvda,w' $'vdev=xvda,tap:gnt:/srv/\xc3' \
        $'script=block-tapzc,vdev=xvda,access=w,target=/srv/m\xfcller.img'; do
        config "$spec"
        run "$t/xl" -N create "$t/t.cfg"
        same status 1 "$status"
        grep -qaF "the path is not UTF-8, which libxl cannot keep" "$t/err"
        grep -qaF "in \`$spec'" "$t/err"
    done
    run "$t/xl" -N block-attach 1 $'tap:zc:/srv/m\xfcller.img,xvda,w'
    same status 1 "$status"
    config $'tap:zc:/srv/m\xc3\xbcller.img,xvda,w'
    run "$t/xl" -N create "$t/t.cfg"
    same status 0 "$status"
}

case_path_with_an_equals_sign_is_told_its_form() {
    config 'tap:zc:/srv/a=b.img,xvda,w'
    run "$t/xl" -N create "$t/t.cfg"
    same status 1 "$status"
    grep -qF "a path with \`=' takes the form script=block-tapzc,vdev=VDEV,access=ACCESS,\
target=PATH: near \`zc:/srv/a=b.img' in \`tap:zc:/srv/a=b.img,xvda,w'" "$t/err"
    config 'script=block-tapzc,vdev=xvda,access=w,target=/srv/a=b.img'
    run "$t/xl" -N create "$t/t.cfg"
    same status 0 "$status"
    grep -qF '"pdev_path": "/srv/a=b.img"' "$t/out"
}

case_errors_after_the_prefix_are_the_real_ones() {
    config 'tap:zc:/p,xvda,w,script=foo'
    run "$t/xl" -N create "$t/t.cfg"
    same status 1 "$status"
    grep -q "script respecified: near \`foo'" "$t/err"
}

case_examples_parse() {
    local example
    for example in "$glue"/examples/*.cfg; do
        run "$t/xl" -N create "$example"
        same "status of $example" 0 "$status"
        grep -q '"script": "block-tapzc"' "$t/out"
    done
}

case_children_do_not_inherit_the_library() {
    run "$t/xl" -N block-attach 1 tap:zc:/path/to/disk.img,xvda,w
    grep -qx "LD_PRELOAD=$stubs" "$t/err"
}

case_wrapper_without_xen() {
    rm "$t/xl.xen-utils-common"
    run "$t/xl" list
    same status 127 "$status"
    grep -q 'not installed' "$t/err"
}

case_wrapper_without_the_library_is_plain_xl() {
    sed -i 's|^preload=.*|preload=/nowhere.so|' "$t/xl"
    run "$t/xl" -N block-attach 1 /path/to/disk.img,raw,xvda,w
    same status 0 "$status"
    ! grep preload "$t/err"
}

find_xl
run_cases
