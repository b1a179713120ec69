
# The limits of this, for which vipd is there:
# - the node that booted last has the address, also when it only came back; nobody takes it over from a dead one, before
#   the next node boots;
# - it goes for IPv4 alone: EC2 reassigns no IPv6 address that another ENI has;
# - it needs the aws command (EKS AMIs of Amazon Linux have it, Ubuntu has not), and the instance role needs
#   ec2:AssignPrivateIpAddresses.
