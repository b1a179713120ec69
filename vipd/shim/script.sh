#!/bin/sh
# What manifests written for aws-ip-manager call, as vipd's commands. vipd takes this shell's place: it gets the signals,
# and its exit code is the container's.
#
#   /app/script.sh initContainers [flag ...]   vipd init
#   /app/script.sh sidecar [flag ...]          vipd sidecar: follows the pod's addresses; with VIPD_VIP and VIPD_LEASE it elects, too
set -eu

refuse() {
	printf 'script.sh: error: %s\n' "$1" >&2
	exit 2
}

case "${1-}" in
initContainers)
	shift
	exec vipd init "$@"
	;;
sidecar)
	shift
	exec vipd sidecar "$@"
	;;
'')
	if [ -n "${NODEPORT_IP-}" ]; then
		refuse "NODEPORT_IP is set, but this vipd cannot bear an address on nodes yet; allowed: 'initContainers' or 'sidecar', in pods"
	fi
	refuse "no mode given; allowed: 'initContainers' or 'sidecar'"
	;;
*)
	refuse "mode '$1': unknown; allowed: 'initContainers' or 'sidecar'"
	;;
esac
