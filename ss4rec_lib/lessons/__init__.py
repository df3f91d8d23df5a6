"""What the lessons share: checked parameters, records, plot style, running them, exercises.

Nothing is imported here on purpose: a lesson takes the one function it needs, and the command line
must not load matplotlib to print a help text.
"""
