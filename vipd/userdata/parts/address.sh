
told=
say() {
    if [ "$*" != "$told" ]; then echo "vipd-address: $*" >&2; fi
    told=$*
}

is_vip() {
    for known in $VIPS; do
        if [ "${known%/*}" = "$1" ]; then return 0; fi
    done
    return 1
}

# The first IPv4 address of an interface is the source of what the node sends. That must not become an address that all
# nodes have, so the VIP waits for the node's own one.
has_own() {
    for bearer in $(ip -o -4 address show dev "$1" scope global 2>/dev/null | awk '{ print $4 }'); do
        if ! is_vip "${bearer%/*}"; then return 0; fi
    done
    return 1
}

# noprefixroute: a VIP opens no way into its subnet, and is the source of none.
# IPv6: preferred_lft 0 keeps it from being chosen as a source; nodad, because every node has it.
put() {
    case $2 in
    *:*)
        if [ -n "$(ip -o -6 address show dev "$1" to "${2%/*}" 2>/dev/null)" ]; then return 0; fi
        ip -6 address replace "$2" dev "$1" nodad noprefixroute preferred_lft 0 || return 1
        ;;
    *)
        if [ -n "$(ip -o -4 address show dev "$1" to "${2%/*}" 2>/dev/null)" ]; then return 0; fi
        if ! has_own "$1"; then
            say "$1 has no IPv4 address of its own yet, or is not there"
            return 1
        fi
        ip -4 address replace "$2" dev "$1" noprefixroute || return 1
        ;;
    esac
    say "$1 bears $2"
}

put_all() {
    put_failed=0
    for vip in $VIPS; do put "$1" "$vip" || put_failed=1; done
    return "$put_failed"
}

apply() {
    if [ -z "${name:-}" ] || ! ip link show dev "$name" >/dev/null 2>&1; then name=$(interface); fi
    if [ -z "$name" ]; then
        say "no interface found: neither does IMDS tell the MAC of one that is here, nor is there a default route"
        return 1
    fi
    put_all "$name"
}

case ${1:-keep} in
once)
    # A minute: whoever waits for this waits with the boot.
    for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        if apply; then exit 0; fi
        if [ "$attempt" != 15 ]; then sleep 4; fi
    done
    exit 1
    ;;
keep)
    # Looked at every 2 s, not set once: systemd-networkd drops addresses that it does not know when it is restarted or
    # reconfigures a link, "netplan apply" does the same, and so does Amazon Linux 2's ec2-net-utils with each DHCP lease.
    while :; do
        apply || :
        sleep 2
    done
    ;;
*)
    say "usage: vipd-address [keep|once]"
    exit 2
    ;;
esac
