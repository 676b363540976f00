"""A fuzzer of nbconv: random networks, damaged files, and killed training runs.

    python -m tests.fuzz networks --seed 123        one case again, as a failure tells it
    python -m tests.fuzz files --count 10000        so many cases, from seed 0 on
    python -m tests.fuzz all --minutes 30 --jobs 2  as many as there is time for

A case follows from its seed alone. Cases run in worker processes (``worker``), so that one which hangs or
dies is a failure like any other and ends no run. What failed is kept in the folder of ``--keep``.
"""
