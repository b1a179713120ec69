#!/bin/sh
# What manifests written for aws-ip-manager call, as vipd's commands. vipd takes this shell's place: it gets the signals,
# and its exit code is the container's.
#
#   /app/script.sh initContainers [flag ...]   vipd init
#   /app/script.sh sidecar [flag ...]          vipd sidecar: follows the pod's addresses; with VIPD_VIP and VIPD_LEASE it elects, too
#   NODEPORT_IP=ADDR/PREFIX /app/script.sh     vipd host: the address is on every node by user data, and the elected node's
#                                              ENI gets it; VIPD_LEASE names the Lease (nodeport-ADDR in lower case, with
#                                              '-' for '.' and ':')
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
	if [ -z "${NODEPORT_IP-}" ]; then
		refuse "no mode given, and NODEPORT_IP is not set; allowed: 'initContainers', 'sidecar', or NODEPORT_IP=ADDR/PREFIX"
	fi
	if [ -z "${VIPD_LEASE-}" ]; then
		VIPD_LEASE="nodeport-$(printf '%s' "${NODEPORT_IP%%/*}" | tr A-F a-f | tr '.:' '--')"
		export VIPD_LEASE
	fi
	[ $# -eq 0 ] || shift
	exec vipd host --vip "$NODEPORT_IP" --address-mode "${VIPD_ADDRESS_MODE:-static}" "$@"
	;;
*)
	refuse "mode '$1': unknown; allowed: 'initContainers' or 'sidecar'"
	;;
esac
