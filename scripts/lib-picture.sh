# Shell functions (bash) for boot tests that look at pictures, taken by tests/boot/vnc_client: sourced, not run.

# picture_color FILE X Y: the pixel of a PPM, as six digits.
picture_color() {
    local width offset
    width=$(head -n 2 "$1" | tail -n 1)
    offset=$(head -n 3 "$1" | wc -c)
    od -An -tx1 -N3 -j $((offset + 3 * ($3 * ${width% *} + $2))) "$1" | tr -d ' '
}

# picture_client OUTPUT: build the client.
picture_client() {
    need_packages libvncserver-dev || exit 1
    # shellcheck disable=SC2046 # a list
    cc -O2 -o "$1" tests/boot/vnc_client.c $(pkg-config --cflags --libs libvncclient) || exit 1
}
