"""What a compiled program costs by its text, and where its time goes by a profile.

Operations and bytes are counted in the optimised program text that XLA runs, loops as often as they are run, by XLA's
conventions: a multiply-add is two operations, every other elementwise one is one, integers' too, and exponentials, powers
and roots are none. Bytes are those that instructions read and write, so what stays inside a fusion has none.
"""
