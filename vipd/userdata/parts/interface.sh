
# The link with this MAC. Children of a link (ipvlan, VLAN) have its MAC, too, and are shown as NAME@PARENT.
link_of() {
    ip -o link show | awk -v mac="$1" '$2 !~ /@/ {
        for (i = 3; i < NF; i++) if ($i == "link/ether" && $(i + 1) == mac) { sub(/:$/, "", $2); print $2; exit }
    }'
}

# The primary ENI is eth0, ens5, enp39s0 or ens34, as the instance type and the distribution have it: its MAC tells.
# Where nobody tells the MAC, the interface of the default route does.
interface() {
    if [ -n "$INTERFACE" ]; then
        printf '%s\n' "$INTERFACE"
        return
    fi
    found=
    if mac=$(imds mac); then found=$(link_of "$mac"); fi
    if [ -z "$found" ]; then
        found=$( (ip -o -4 route show default; ip -o -6 route show default) |
            awk '{ for (i = 1; i < NF; i++) if ($i == "dev") { print $(i + 1); exit } }')
    fi
    printf '%s\n' "$found"
}
