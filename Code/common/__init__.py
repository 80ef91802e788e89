"""What every room uses: errors, files, locks, progress, the command line. Imports nothing of the project."""
