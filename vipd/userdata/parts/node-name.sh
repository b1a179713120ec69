
say() { echo "vipd-host: $*" >&2; }

# The name that the node has in Kubernetes is the kubelet's to choose: --hostname-override, else the host's name.
node_name() {
    kubelet=$(pgrep -o -x kubelet) || return 1
    override=$(tr '\0' '\n' <"/proc/$kubelet/cmdline" |
        sed -n -e 's/^--hostname-override=//p' -e '/^--hostname-override$/{' -e n -e p -e '}' | tail -n 1)
    if [ -z "$override" ]; then override=$(uname -n | tr '[:upper:]' '[:lower:]'); fi
    printf '%s\n' "$override"
}

if ! NODE_NAME=$(node_name); then
    # Not waited for by After=: cloud-init starts this unit, and the kubelet is started when cloud-init is through.
    say "no kubelet runs yet"
    exit 1
fi
export NODE_NAME
