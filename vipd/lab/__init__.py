"""The lab: a small VPC with EC2, IMDS and Kubernetes APIs in network namespaces, and faults to play in it."""
