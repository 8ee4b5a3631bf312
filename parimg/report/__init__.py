"""Pages of jobs, one self-contained file each: a report, and the differences of two jobs.

Made from journals alone, also years later and without a cluster. `facts` reads, `pictures` draws, `page` puts both
into a template; nothing in a page is run or loaded from elsewhere. The command line and the user call it.
"""
