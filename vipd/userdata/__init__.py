"""``vipd userdata``: EC2 user data for nodes that bear a NodePort VIP, as text; nothing is touched."""
