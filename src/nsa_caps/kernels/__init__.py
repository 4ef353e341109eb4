"""Store and gather for one page format behind one signature; each module is loaded when a row first uses it.

`reference` is plain torch and the oracle of the rest, `portable` is Triton for CUDA and ROCm. Both take::

    gather(cache, page_table, cu_seq_lens, *, total_tokens, out=None, fmt, checked=False) -> (keys, scales)
    store(cache, slots, keys, scales, *, fmt, checked=False)
    quantise_and_store(cache, slots, keys, *, fmt, checked=False)

Nothing is imported here, so that a machine without torch can still be told which kernels it cannot run.
"""
