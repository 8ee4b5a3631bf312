"""Which images show this: indexes of many images, searched by a picture or a part of one.

Imports the controller and tasks; called by the command line and users.
"""
