"""A study's runs: what there is to run, who carries it out, and what came out.

    tasks.py      every arm and source at every seed, and what each of them waits for
    schedule.py   which run begins when; lost workers, failures, Ctrl-C
    worker.py     one run in a process of its own, wherever that is
    processes.py  workers that are processes of this machine
    on_ray.py     workers that are tasks of a Ray cluster
    lease.py      one process at a time for each run, though nodes get lost and come back
    owners.py     who has a lease: whether they live, what they say
    watching.py   ending a run whose arm cannot win
    shown.py      what the terminal shows
    curves.py, results.py   from the folders of finished runs to the record of a study

Both kinds of workers do the same few things (`schedule.Workers`); everything that decides something stands above them
and is the same for both, so that a study has one result.
"""
