"""What a user would pick instead, measured by the same load client on the same machine in the same run."""
