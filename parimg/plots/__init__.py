"""Pictures of records and rankings, for notebooks, reports and the command line.

Reads journals and images, draws arrays (`draw_...`) or on matplotlib's axes (`plot_...`), never shows. How a
record of a task looks is the task's business (`Task.plot`), how a job does the job's (`Job.plot`,
`Job.plot_timeline`). The command line, the report and the user call it.
"""
