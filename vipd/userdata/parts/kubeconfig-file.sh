
# A Role for Leases has to be bound to whom this kubeconfig names: examples/nodeport/userdata/README.md has it.
if [ ! -r "$KUBECONFIG" ]; then
    say "$KUBECONFIG is not there yet"
    exit 1
fi
export KUBECONFIG
