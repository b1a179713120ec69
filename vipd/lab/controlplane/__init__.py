"""A real kube-apiserver with its etcd, for tests and for the lab."""
