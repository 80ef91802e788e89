"""What all other packages use: errors, files, locks, progress, the command line. It imports none of them."""
