
say() { echo "vipd-mapping: $*" >&2; }

mac_of() {
    ip -o link show dev "$1" | awk '{ for (i = 3; i < NF; i++) if ($i == "link/ether") { print $(i + 1); exit } }'
}

take() {
    name=$(interface)
    mac=
    if [ -n "$name" ]; then mac=$(mac_of "$name"); fi
    if [ -z "$mac" ]; then
        say "no interface with a MAC found"
        return 1
    fi
    if ! eni=$(imds "network/interfaces/macs/$mac/interface-id"); then
        say "IMDS knows no ENI with the MAC $mac of $name"
        return 1
    fi
    region=$REGION
    if [ -z "$region" ] && ! region=$(imds placement/region); then
        say "IMDS does not tell the Region"
        return 1
    fi
    # $ADDRESSES unquoted: one argument each.
    # shellcheck disable=SC2086
    aws ec2 assign-private-ip-addresses --region "$region" --network-interface-id "$eni" --allow-reassignment \
        --private-ip-addresses $ADDRESSES >/dev/null || return 1
    say "$eni ($name) has $ADDRESSES"
}

# Five minutes: systemd 219 of Amazon Linux 2 knows no Restart= for a oneshot unit.
tries=0
until take; do
    tries=$((tries + 1))
    if [ "$tries" -ge 60 ]; then
        say "given up: systemctl restart vipd-mapping tries again"
        exit 1
    fi
    sleep 5
done
