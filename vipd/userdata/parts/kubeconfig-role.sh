
# As the role, not as the node: NodeRestriction lets a node (group system:nodes) write no Lease but its own one in
# kube-node-lease. The instance role needs eks:DescribeCluster and sts:AssumeRole.
KUBECONFIG=/run/vipd/kubeconfig
export KUBECONFIG
umask 077
if [ -z "$REGION" ] && ! REGION=$(imds placement/region); then
    say "IMDS does not tell the Region"
    exit 1
fi
AWS_REGION=$REGION
export AWS_REGION
aws eks update-kubeconfig --name "$CLUSTER" --role-arn "$ROLE_ARN" --kubeconfig "$KUBECONFIG" >/dev/null
