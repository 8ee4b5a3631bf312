"""The live page of jobs, in a browser: what runs, how far, how fast, what fails.

Drawn from journals, so it follows jobs of any process; they are looked at only while a page is open. `follow`
reads what is new, `course` and `engines` make sense of it, `fragments` and `figures` draw it, `page` shows it,
`gate` lets in who has the token, `server` runs it all. Jobs are stopped and resumed by way of a `JobSet` that
owns them; the controller has one, so this room lies below it. It may import the rooms of jobs and images; the
controller and the command line call it.
"""
