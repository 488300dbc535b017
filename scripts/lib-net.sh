# Shell functions (bash) for boot tests that use the network: sourced, not run, after lib-guest.sh.

# net_serve DIR: an HTTP server for DIR's files, of which one is `data`, on the host's loopback, until the test ends. Sets net_port.
net_serve() {
    local busybox=guests/busybox-amd64/bin/busybox try
    for try in 1 2 3 4 5 6 7 8; do
        net_port=$(free_port)
        "$busybox" httpd -f -p "127.0.0.1:$net_port" -h "$1" &
        net_server=$!
        while kill -0 "$net_server" 2>/dev/null; do
            "$busybox" wget -q -O - "http://127.0.0.1:$net_port/data" 2>/dev/null | cmp -s - "$1/data" && return
            sleep 0.1
        done
    done
    die "no HTTP server on the host (last try: port $net_port, attempt $try)"
}

# net_initramfs OUTPUT MODULE...: an initramfs with these kernel modules, a script for udhcpc, "sh /root/net-up.sh",
# which loads the modules and gets an address for eth0, and "sh /root/net-listen.sh", which lets nc listen at port 7
# and says "waiting" when it does.
net_initramfs() {
    local output=$1 dir
    shift
    dir=$(mktemp -d) || exit 1
    cat >"$dir/udhcpc.sh" <<'END'
#!/bin/sh
[ "$1" = deconfig ] && ip addr flush dev "$interface"
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "nameserver $dns" >/etc/resolv.conf
echo "lease: $ip/$mask by $router, names by $dns"
END
    cat >"$dir/net-up.sh" <<'END'
for module in /root/*.ko; do insmod $module; done
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -s /root/udhcpc.sh -n -q
END
    cat >"$dir/net-listen.sh" <<'END'
{ until grep -q ':0007 [0-9A-F]*:0000 0A' /proc/net/tcp*; do usleep 20000; done; echo waiting; } >&2 &
exec nc -l -p 7
END
    chmod +x "$dir/udhcpc.sh"
    scripts/make-initramfs amd64 "$output" "$@" "$dir/udhcpc.sh" "$dir/net-up.sh" "$dir/net-listen.sh" >/dev/null || die "no initramfs"
    rm -r "$dir"
}

# net_talk SECONDS: the guest, which is up in that time, does what `net_commands` says: gets an address, $net_dir/data from the host,
# and the same again through the host's port $forwarded.
net_talk() {
    local sum
    sum=$(md5sum <"$net_dir/data")
    guest_expect "$1" 'calque-guest: ready'
    guest_expect 60 '^lease: 10.0.2.15/24 by 10.0.2.2, names by 10.0.2.3' 'ether 52:54:00:11:22:33' "^${sum%% *}" '^waiting'
    timeout 60 bash -c "cat '$net_dir/data' >/dev/tcp/127.0.0.1/$forwarded" || guest_fail "hostfwd takes no data"
    guest_expect 60 "^${sum%% *}" '^0$' 'calque-guest: status 0'
    guest_end 30
    guest_refuse "$guest_linux_complaints"
}

# net_commands: for the guest's calque.run. Needs net_serve.
net_commands() {
    echo "sh /root/net-up.sh; ip link show eth0; cd /tmp; wget -q http://10.0.2.2:$net_port/data; md5sum <data;" \
        "sh /root/net-listen.sh >back; md5sum <back; cat /sys/class/net/eth0/statistics/rx_errors"
}

# net_cleanup: the HTTP server and the test's files go away with the guest.
net_cleanup() {
    guest_kill
    [ -z "${net_server:-}" ] || kill "$net_server" 2>/dev/null
    [ -z "${net_dir:-}" ] || rm -rf "$net_dir"
}
