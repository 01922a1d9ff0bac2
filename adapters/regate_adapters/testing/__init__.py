"""What tests of ours and of others may use: the real thing, ready to run, and the conformance suites
of the ports.
"""
