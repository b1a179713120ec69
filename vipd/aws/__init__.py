"""The AWS edge: which ENI is ours, where EC2 maps an address, and how it is moved.

Importing this package loads neither botocore nor aiohttp; its modules load them when they are first needed.
"""
