
# A namespace of its own in containerd: the kubelet cleans up in k8s.io alone, and knows nothing of this container.
ctr() { command ctr --namespace vipd "$@"; }

pull() {
    if [ -n "$ECR_REGION" ]; then
        ctr images pull --user "AWS:$(aws ecr get-login-password --region "$ECR_REGION")" "$IMAGE"
    else
        ctr images pull "$IMAGE"
    fi
}

if [ -z "$(ctr images list -q "name==$IMAGE")" ]; then pull >/dev/null; fi

# What a crash or a lost power has left of the last one.
ctr tasks kill --signal SIGKILL vipd-host 2>/dev/null || :
ctr tasks delete --force vipd-host >/dev/null 2>&1 || :
ctr containers delete vipd-host >/dev/null 2>&1 || :

# As root, for the two capabilities: another user of the image would lose them with exec.
exec ctr --namespace vipd run --rm --net-host --user 0:0 --cap-add CAP_NET_ADMIN --cap-add CAP_NET_RAW \
    --mount "type=bind,src=$KUBECONFIG,dst=/run/vipd/kubeconfig,options=rbind:ro" \
    --env KUBECONFIG=/run/vipd/kubeconfig --env "NODE_NAME=$NODE_NAME" \
    "$IMAGE" vipd-host vipd "$@"
