"""Groups of one video in several processes: tasks, the workers that do them, and the merge that keeps their order.

start.py has the workers of a run, local.py those of this machine, cluster.py those of Ray; encoding.py and decoding.py
the merge.
"""
