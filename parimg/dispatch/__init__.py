"""Which image goes to which engine, and again if it must. Knows no ipyparallel.

Imports job, sources and protocol; the controller starts a dispatcher for each job. `dispatcher` is the loop;
`new_images` and `chunk_size` say what goes out, `in_flight` where to, `lost_engines` and `retries` what happens
when no answer comes, `common_failure` when all answers are one failure.
"""
