"""From pictures of people to faces that FAN can read, and to its answer.

Everything here imports without the packages of requirements-faces.txt; what needs one says so when it is used.
"""
