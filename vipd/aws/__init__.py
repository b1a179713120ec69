"""The AWS edge: which ENI is ours, where EC2 maps an address, and how it is moved.

Importing this package does not load botocore; its modules load it when it is first needed.  IMDS is asked without it.
"""
